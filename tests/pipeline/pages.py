"""What README and docs tell a reader to type, ready to be run in a copy of this checkout."""

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from checkout import TOP

PAGES = [TOP / "README.md", *sorted((TOP / "docs/tutorials").glob("*.md")), *sorted((TOP / "docs").glob("*.md"))]
# They serve until they are stopped: the target, and where the pages say that it is found.
SERVERS = {
    "make ui": "http://127.0.0.1:5000",
    "make serve": "http://127.0.0.1:5001",
    "make demo": "http://127.0.0.1:7860",
    "make sweep-ui": "http://127.0.0.1:8080",
}
# Other hosts of the pages that stand on this one when a test types what they say.
TRACKING = "http://tracking:5000"
DATABASE = "postgresql://user:password@database/sweeps"


@dataclass(frozen=True)
class Block:
    """A piece of a page between fences: commands (sh), a program (python), a change of a file (diff), or an example."""

    kind: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The page's blocks, in their order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(kind, text) for kind, text in found]


def the_block(words: str) -> str:
    """The one block of commands of all pages that has these words."""
    (text,) = (b.text for page in PAGES for b in blocks(page) if b.kind == "sh" and words in b.text)
    return text


def steps(commands: str) -> list[str]:
    """A block of commands in parts that are done one after the other: a target of SERVERS, or a script."""
    done: list[str] = []
    lines: list[str] = []
    for line in commands.splitlines():
        target = line.partition("#")[0].strip()
        if target in SERVERS:
            done += [*filter(None, ["\n".join(lines)]), target]
            lines = []
        else:
            lines.append(line)
    return [*done, *filter(None, ["\n".join(lines)])]


def on_this_machine(script: str) -> str:
    """The script with free ports of this host for its workers, and fewer trials.

    A script for the first of two workers becomes one for both, side by side.
    """
    for address in {*re.findall(r"(?:127\.0\.0\.1|node\d):1234\d", script)}:
        script = script.replace(address, f"127.0.0.1:{free_port()}")
    script = script.replace("TRIALS=60", "TRIALS=4")
    if '"index": 0}' in script:
        other = script.replace('"index": 0}', '"index": 1}')
        script = f"({other}\n) & other=$!\n{script}\nwait $other"
    return script


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
