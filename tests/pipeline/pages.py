"""Code blocks of README and docs, prepared to run in a clone on this machine."""

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from checkout import TOP

PAGES = [TOP / "README.md", *sorted((TOP / "docs/tutorials").glob("*.md")), *sorted((TOP / "docs").glob("*.md"))]
# Targets that serve until they are stopped, with the address that the pages name.
SERVERS = {
    "make ui": "http://127.0.0.1:5000",
    "make serve": "http://127.0.0.1:5001",
    "make demo": "http://127.0.0.1:7860",
    "make sweep-ui": "http://127.0.0.1:8080",
}
# Other hosts that the pages name; tests replace them by servers on this machine.
TRACKING = "http://tracking:5000"
DATABASE = "postgresql://user:password@database/sweeps"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: commands (sh), a program (python), an edit (diff), or an example (other kinds)."""

    kind: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(kind, text) for kind, text in found]


def the_block(words: str) -> str:
    """The only sh block of all pages that contains `words`."""
    (text,) = (b.text for page in PAGES for b in blocks(page) if b.kind == "sh" and words in b.text)
    return text


def steps(commands: str) -> list[str]:
    """Split an sh block into steps: targets of SERVERS, and the scripts between them."""
    found: list[str] = []
    lines: list[str] = []
    for line in commands.splitlines():
        target = line.partition("#")[0].strip()
        if target in SERVERS:
            found += [*filter(None, ["\n".join(lines)]), target]
            lines = []
        else:
            lines.append(line)
    return [*found, *filter(None, ["\n".join(lines)])]


def on_this_machine(script: str) -> str:
    """Replace the addresses of workers by free ports of this machine, and reduce the number of trials.

    A script for the first of two workers becomes one that runs both in parallel.
    """
    for address in {*re.findall(r"(?:127\.0\.0\.1|node\d):1234\d", script)}:
        script = script.replace(address, f"127.0.0.1:{free_port()}")
    script = script.replace("TRIALS=60", "TRIALS=4")
    if '"index": 0}' in script:
        other = script.replace('"index": 0}', '"index": 1}')
        script = f"({other}\n) & other=$!\n{script}\nwait $other"
    return script


def free_port() -> int:
    """An unused port of the loopback address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
