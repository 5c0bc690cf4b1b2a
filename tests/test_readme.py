"""README.md and the documentation match the code."""

import re

from checkout import TOP

README = (TOP / "README.md").read_text()


def test_the_table_of_results_is_the_pipelines() -> None:
    shown = README.split("<!-- reports/results.md -->\n")[1].split("<!-- end -->")[0].strip()
    assert shown == (TOP / "reports/results.md").read_text().strip()


def test_every_name_in_the_tree_exists() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    names = [
        name
        for line in tree.splitlines()
        for name in re.findall(r"^(?:  )?([\w./*]+)", line)
        if "." in name or "/" in name
    ]
    assert len(names) > 12
    for name in names:
        assert list(TOP.glob(name)) or list((TOP / "src/cnnlab").glob(name)), name


def test_every_folder_of_the_library_is_in_the_tree() -> None:
    tree = README.split("## The tree")[1].split("```")[1].split("src/cnnlab/ ")[1].split("\ntests/ ")[0]
    for path in (TOP / "src/cnnlab").rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            assert re.search(rf"\b{path.stem}\b", tree), path


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    pages = [TOP / "README.md", *(TOP / "docs").rglob("*.md")]
    command = re.compile(r"(?:`|^)make ([a-z-]+)", re.MULTILINE)
    named = {target for page in pages for target in command.findall(page.read_text())}
    assert named
    assert named <= targets


def test_every_link_and_picture_leads_somewhere() -> None:
    for page in (TOP / "README.md", TOP / "reports/lesson.md", *(TOP / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
