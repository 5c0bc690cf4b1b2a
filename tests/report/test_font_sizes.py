"""Text of figures: no smaller than pages expect when they scale figures."""

import re
from pathlib import Path

from cnnlab import files
from cnnlab.report.plots import SMALLEST, STYLE


def test_no_text_is_smaller_than_pages_expect() -> None:
    code = [path.read_text() for path in Path(files.__file__).parent.rglob("plots.py")]
    sizes = [float(size) for text in code for size in re.findall(r"fontsize=([\d.]+)", text)]
    assert len(sizes) > 10
    assert min(*sizes, STYLE["font.size"]) == SMALLEST
