"""Digest of the code that determines a result; comments, docstrings and layout do not change it."""

import ast
import functools
import hashlib
from collections.abc import Iterable, Set
from pathlib import Path

SOURCE = Path(__file__).parent
MODULES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}
DISCOVERED = "cnnlab.nets.families"  # a package whose modules are discovered at run time: importing it imports them all
# They determine no result: file writing, errors, MLflow and its model cards, registration of networks in cnnlab itself.
IGNORED = frozenset(
    {"cnnlab", "cnnlab.errors", "cnnlab.files", "cnnlab.fingerprint", "cnnlab.train.card"}
    | {name for name in MODULES if name.startswith("cnnlab.tracking")}
)


@functools.cache
def imported(path: Path) -> set[str]:
    """Modules of cnnlab that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    if DISCOVERED in names:
        names |= {name for name in MODULES if name.startswith(f"{DISCOVERED}.")}
    return (names & MODULES.keys()) - {"cnnlab"}


def reached(path: Path, ignored: Set[str] = frozenset()) -> set[str]:
    """Modules of cnnlab that a file imports, directly or through modules that are not `ignored`."""
    found: set[str] = set()
    ahead = imported(path) - ignored
    while ahead:
        found |= ahead
        ahead = {name for module in ahead for name in imported(MODULES[module])} - found - ignored
    return found


def fingerprint(scripts: Iterable[Path]) -> str:
    """SHA-256 (hex) of the statements of some files and of every module they reach, except `IGNORED` ones."""
    paths: dict[str, Path] = {}
    for script in scripts:
        paths |= {script.name: script, **{name: MODULES[name] for name in reached(script, IGNORED)}}
    digest = hashlib.sha256()
    for name in sorted(paths):
        digest.update(f"{name}\n{_statements(paths[name])}\n".encode())
    return digest.hexdigest()


def statements(source: str) -> str:
    """Python source without comments and docstrings, in a normalised layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


@functools.cache
def _statements(path: Path) -> str:
    return statements(path.read_text())
