"""docs/coverage.md refers to existing files and tests, and has a row for every item of the course."""

import re

import pytest
from checkout import TOP

PAGE = (TOP / "docs/coverage.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith(("| slides", "| handout"))]


@pytest.mark.parametrize("row", ROWS)
def test_the_file_and_the_test_of_a_row_exist(row: str) -> None:
    cells = row.strip("|").split(" | ")
    assert len(cells) == 5
    (file,) = re.findall(r"\]\(\.\./([^)]+)\)", cells[3])
    assert (TOP / file).is_file()
    ((name, path),) = re.findall(r"\[`(\w+)`\]\(\.\./([^)]+)\)", cells[4])
    assert f"\ndef {name}(" in (TOP / path).read_text()


def test_the_courses_networks_figures_and_tables_have_a_row() -> None:
    """Items are identified by printed numbers, slide headings and cells of the handout."""
    for item in (
        "Растровая", "Структурная", "Признаковая", "Hubel", "Иерархия", "Типы слоев", "Scalar", "3 × 3 × N × K",
        "Strided", "Receptive field", "[[1, 6, 5], [7, 10, 9], [7, 10, 8]]", "W₂ = (W₁ − fs + 2P) / S + 1", "sees",
        "Пуллинг", "Полносвязный", "421,642", "In [4]", "In [5]", "In [6]", "0.4304", "90.69", "1,250,858",
        "homework 1", "homework 2", "derivative", "ImageDataGenerator", "lenet.png", "full_connected.png",
        "pyramid", "Предобученные",
    ):  # fmt: skip
        assert item in PAGE, item
