"""README, docs and tutorials: every command runs and every diff applies, in the order of the page."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pages
import pytest
from checkout import Run
from commands import TESTED_APART, Serve, shell

pytest_plugins = ["studies.conftest"]


@pytest.fixture
def srun(tmp_path: Path) -> str:
    """A folder with an `srun` that starts two tasks on this machine with Slurm's environment variables."""
    (tmp_path / "srun").write_text(
        "#!/bin/sh\n"
        "export SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=localhost SLURM_STEP_TASKS_PER_NODE=2\n"
        'SLURM_PROCID=1 "$@" & other=$!\n'
        'SLURM_PROCID=0 "$@" && wait $other\n'
    )
    (tmp_path / "srun").chmod(0o755)
    return str(tmp_path)


@pytest.fixture
def execute(
    run: Run, serve: Serve, srun: str, environment: dict[str, str], request: pytest.FixtureRequest
) -> Callable[[str], None]:
    """Run an sh block with servers on this machine in place of the hosts that it names."""

    def call(commands: str) -> None:
        with ExitStack() as stack:
            variables = {"PATH": f"{srun}:{environment['PATH']}"}
            for target, documented in (*pages.SERVERS.items(), ("make ui", pages.TRACKING)):
                if documented in commands:
                    commands = commands.replace(documented, stack.enter_context(serve(target)))
            if pages.DATABASE in commands:
                commands = commands.replace(pages.DATABASE, request.getfixturevalue("database"))
            for step in pages.steps(commands):
                if step in pages.SERVERS:
                    with serve(step):
                        pass
                else:
                    shell(run, pages.on_this_machine(step), **variables)

    return call


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("document", pages.PAGES, ids=lambda document: document.stem)
def test_the_commands_and_diffs_of_a_page_work(
    document: Path, run: Run, execute: Callable[[str], None], tmp_path: Path
) -> None:
    """In the order of the page; its diffs are reverted at the end."""
    applied = []
    try:
        for number, block in enumerate(pages.blocks(document)):
            if block.kind == "diff":
                (tmp_path / f"{number}.diff").write_text(block.text)
                run("git", "apply", str(tmp_path / f"{number}.diff"))
                applied.append(tmp_path / f"{number}.diff")
            elif block.kind == "python":
                run(".venv/bin/python", "-c", block.text)
            elif block.kind == "sh" and not any(words in block.text for words in TESTED_APART):
                execute(block.text)
    finally:
        for diff in reversed(applied):
            run("git", "apply", "--reverse", str(diff))
