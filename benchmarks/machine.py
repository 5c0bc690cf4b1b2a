"""What the benchmark runs on: processor, memory, GPUs, versions; no name of the machine."""

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
from comparisons import LOGICAL, PICTURES, PYTORCH

from cnnlab.files import PROCESSED

NO_PYTORCH = "not installed: pip install torch==2.13.0"
NO_PYTORCH_GPU = "its PyTorch sees no GPU"
NO_LOGICAL = "skipped: logical CPUs are for machines without a GPU"
NO_PICTURES = "its data is not there: dvc repro preprocess-optional@imagenette"


@dataclass(frozen=True)
class Machine:
    """What the sides run on; `absent` has the reason for each side that cannot be measured."""

    facts: dict[str, str]
    kind: Literal["CPU", "GPU"]
    torch_python: str
    absent: dict[str, str]


def inspect(torch_python: str) -> Machine:
    """Ask TensorFlow and PyTorch, each in a process of its own, and the system."""
    probe = subprocess.run(
        [sys.executable, Path(__file__).with_name("sides.py"), "probe"], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(probe.stdout)
    gpus = found.pop("gpus")
    pytorch, sees_gpu = ask_pytorch(torch_python)
    absent = {PYTORCH: NO_PYTORCH} if not pytorch else {PYTORCH: NO_PYTORCH_GPU} if gpus and not sees_gpu else {}
    absent |= dict.fromkeys(LOGICAL, NO_LOGICAL) if gpus else {}
    absent |= {} if (PROCESSED / "imagenette" / "files.json").exists() else {PICTURES: NO_PICTURES}
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
    """PyTorch's version in an interpreter, empty where there is none, and whether it sees a GPU."""
    question = "import numpy, torch; print(torch.__version__, torch.cuda.is_available())"
    try:
        version, gpu = subprocess.run(
            [python, "-c", question], capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return "", False
    return version, gpu == "True"


def processor() -> str:
    """The processor's model."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def slug(machine: Machine) -> str:
    """The GPU or processor in a form for file names."""
    name = machine.facts["GPUs"] if machine.kind == "GPU" else machine.facts["processor"]
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def commit() -> str:
    """The commit of the checkout, and whether its source differs from it."""
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
