"""The HTML of a page: one file with its figures and tables, which links only to itself and to published sources.

The frame is an f-string: a Jinja2 template of it takes as many lines, and a loader on top. markdown-it-py renders the
body, page.css styles it.
"""

import base64
import html
import re
from collections.abc import Iterable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from cnnlab.report.language import Language
from cnnlab.report.plots import DPI, SMALLEST

CSS_DPI = 96  # CSS pixels per inch
LEGIBLE = 9  # CSS pixels, the least height of text in figures
LONG = 40  # characters; a longer cell is not squeezed to the width of its longest word
CONTENTS = 2  # levels of headings in the list of contents
KEPT = re.compile(r"(?<=\d) (?=%)|(?<=[×=]) (?=\d)|(?<=\bn) (?==)|(?<=п\.) (?=п\.)")  # spaces where no line ends
Tokens = Sequence[Token]


def document(blocks: Sequence[str], folder: Path, files: Iterable[str], say: Language) -> str:
    """HTML of Markdown blocks. Figures, and the CSV `files` in collapsed tables, are read from `folder`."""
    files = list(files)
    markdown = MarkdownIt("commonmark", renderer_cls=_Renderer).enable("table")
    tokens = markdown.parse("\n\n".join(blocks))
    found = headings(blocks)
    for (_, _, anchor), token in zip(found, (t for t in tokens if t.type == "heading_open"), strict=True):
        token.attrSet("id", anchor)
    environment = {"folder": folder, "files": files, "say": say, "figures": 0}
    body = markdown.renderer.render(tokens, markdown.options, environment)
    embedded = "".join(_table(folder, file, say) for file in files)
    title = html.escape("; ".join(text for level, text, _ in found if level == 1))
    listed, label = markdown.render(contents(blocks), environment), html.escape(say("Contents"))
    style = Path(__file__).with_name("page.css").read_text()
    return (
        f'<!DOCTYPE html>\n<html lang="{say.code}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n"
        f'<nav aria-label="{label}"><details><summary>{label}</summary>\n{listed}</details>'
        f"</nav>\n<main>\n{body}{embedded}</main>\n</body>\n</html>\n"
    )


def contents(blocks: Sequence[str]) -> str:
    """Markdown list of links to the headings of a page."""
    items = ((level, text, anchor) for level, text, anchor in headings(blocks) if level <= CONTENTS)
    return "\n".join(f"{'  ' * (level - 1)}- [{text}](#{anchor})" for level, text, anchor in items)


def headings(blocks: Sequence[str]) -> list[tuple[int, str, str]]:
    """Level, text and anchor of each heading; the anchors are those that GitHub gives to headings in Markdown."""
    found: list[tuple[int, str, str]] = []
    seen: dict[str, int] = {}
    for marks, text in re.findall(r"^(#+) (.+)$", "\n".join(b for b in blocks if b.startswith("#")), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        seen[anchor] = seen.get(anchor, -1) + 1
        found.append((len(marks), text, f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor))
    return found


def _box(label: str, anchor: str = "") -> str:
    """Open a box that scrolls sideways if its content is wider, with the mouse, a finger or the keyboard."""
    named = f' id="{html.escape(anchor)}"' if anchor else ""
    return f'<div class="wide"{named} role="region" tabindex="0" aria-label="{html.escape(label)}">'


def _table(folder: Path, file: str, say: Language) -> str:
    """A CSV as a download, and as a collapsed table with at most six digits of a number and eight of a run's ID."""
    rows = pd.read_csv(folder / file, dtype=str, keep_default_na=False)
    table = rows.to_html(index=False, border=0)
    table = table.replace(' class="dataframe"', "").replace(' style="text-align: right;"', "")
    table = re.sub(r"\d+\.\d{5,}(e[+-]\d+)?", lambda number: f"{float(number[0]):.6g}", table)
    table = re.sub(r"\b([0-9a-f]{8})[0-9a-f]{24}\b", r"\1", table)
    data = base64.b64encode((folder / file).read_bytes()).decode()
    name = html.escape(file)
    link = f'<a download="{Path(name).name}" href="data:text/csv;base64,{data}">{html.escape(say("Download"))}</a>'
    summary = html.escape(say("{file}: {rows:count} rows", file=file, rows=len(rows)))
    box = _box(file, _anchor(file))
    return f"<details><summary>{summary}</summary>\n<p>{link}</p>\n{box}{table}</div></details>\n"


def _anchor(file: str) -> str:
    return f"table-{file.replace('/', '-')}"


class _Renderer(RendererHTML):
    """Renders tables and figures in boxes that scroll, figures with captions, and links only where they lead."""

    def table_open(self, tokens: Tokens, idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        heading = next((tokens[i + 1].content for i in range(idx, -1, -1) if tokens[i].type == "heading_open"), "")
        return f"{_box(env['say']('Table: {heading}', heading=heading))}<table>\n"

    def table_close(self, tokens: Tokens, idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return "</table></div>\n"

    def td_open(self, tokens: Tokens, idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        if len(tokens[idx + 1].content) > LONG:
            tokens[idx].attrSet("class", "long")
        return self.renderToken(tokens, idx, options, env)

    def paragraph_open(self, tokens: Tokens, idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """Begin a figure in place of a paragraph that begins with an image."""
        children = tokens[idx + 1].children or []
        if not children or children[0].type != "image":
            return self.renderToken(tokens, idx, options, env)
        _, hard_break, *caption = children
        hard_break.hidden = True
        caption[0].tag = caption[-1].tag = "figcaption"
        tokens[idx].tag = tokens[idx + 2].tag = "figure"
        env["figures"] += 1
        tokens[idx].attrSet("id", f"figure-{env['figures']}")
        return self.renderToken(tokens, idx, options, env)

    def hardbreak(self, tokens: Tokens, idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        return "" if tokens[idx].hidden else super().hardbreak(tokens, idx, options, env)

    def image(self, tokens: Tokens, idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        content = (env["folder"] / str(tokens[idx].attrs["src"])).read_bytes()
        width, height = (int.from_bytes(content[i : i + 4]) * CSS_DPI // DPI for i in (16, 20))  # PNG, section 11.2.2
        least = width * LEGIBLE / (SMALLEST * CSS_DPI / 72)
        source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        return (
            f"{_box(env['say']('Figure {number}', number=env['figures']))}"
            f'<img src="{source}" alt="{html.escape(tokens[idx].content)}" width="{width}" height="{height}" '
            f'style="min-width: {least:.0f}px" /></div>\n'
        )

    def link_open(self, tokens: Tokens, idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        """A link within the page or to a published source; to an embedded table in place of its file."""
        target = str(tokens[idx].attrs["href"])
        if target in env["files"]:
            tokens[idx].attrSet("href", f"#{_anchor(target)}")
        elif not target.startswith(("#", "https://")):  # a file that is not in this one: its name is left
            tokens[idx].tag = next(t for t in tokens[idx:] if t.type == "link_close").tag = "span"
            del tokens[idx].attrs["href"]
        return self.renderToken(tokens, idx, options, env)

    def text(self, tokens: Tokens, idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        escaped = KEPT.sub("\N{NO-BREAK SPACE}", super().text(tokens, idx, options, env))
        return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', escaped)
