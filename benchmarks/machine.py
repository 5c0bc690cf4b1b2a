"""Describe the machine: processor, memory, GPUs, versions, but not its name."""

import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import protocol
from comparisons import LOGICAL, PYTORCH, STREAMED

from cnnlab.files import PROCESSED

NO_PYTORCH = "not installed: pip install torch==2.13.0"
NO_PYTORCH_GPU = "PyTorch finds no GPU"
NO_LOGICAL = "skipped: logical CPUs are for machines without a GPU"
NO_IMAGENETTE = "data set is missing: dvc repro preprocess@imagenette"


@dataclass(frozen=True)
class Machine:
    """Facts about the machine; `absent` has the reason for each side that cannot be measured."""

    facts: dict[str, str]
    kind: Literal["CPU", "GPU"]
    torch_python: str
    absent: dict[str, str]


def inspect(torch_python: str) -> Machine:
    """Query the system, and TensorFlow and PyTorch in processes of their own."""
    probe = subprocess.run(
        [sys.executable, Path(__file__).with_name("sides.py"), "probe"], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(probe.stdout)
    gpus = found.pop("gpus")
    pytorch, sees_gpu = ask_pytorch(torch_python)
    absent = {PYTORCH: NO_PYTORCH} if not pytorch else {PYTORCH: NO_PYTORCH_GPU} if gpus and not sees_gpu else {}
    absent |= dict.fromkeys(LOGICAL, NO_LOGICAL) if gpus else {}
    absent |= {} if (PROCESSED / "imagenette" / "files.json").exists() else {STREAMED: NO_IMAGENETTE}
    facts = {
        "processor": f"{processor()}, {protocol.cores()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "GPUs": ", ".join(gpus) or "none",
        "Python": platform.python_version(),
        **found,
        PYTORCH: pytorch or "none",
        "cnnlab": commit(),
    }
    return Machine(facts, "GPU" if gpus else "CPU", torch_python, absent)


def ask_pytorch(python: str) -> tuple[str, bool]:
    """PyTorch's version in an interpreter (empty if not installed), and whether it finds a GPU."""
    script = "import numpy, torch; print(torch.__version__, torch.cuda.is_available())"
    try:
        version, gpu = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return "", False
    return version, gpu == "True"


def processor() -> str:
    """Model name of the processor."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def slug(machine: Machine) -> str:
    """GPU or processor as part of a file name."""
    name = machine.facts["GPUs"] if machine.kind == "GPU" else machine.facts["processor"]
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def commit() -> str:
    """Short hash of the commit, with a remark if src/ or benchmarks/ have changes."""
    try:
        head, changed = (
            subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (
                ["rev-parse", "--short=10", "HEAD"],
                ["status", "--porcelain", "--", "src", "benchmarks/*.py"],
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + (" with changes" if changed else "")
