"""Pages in Markdown and HTML whose sentences cite the table rows that they were generated from.

The HTML frame is an f-string: a Jinja2 template of it takes as many lines, and a loader and a package file on top.
markdown-it-py renders the body.
"""

import base64
import html
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from markdown_it import MarkdownIt

from cnnlab.files import write_text
from cnnlab.report.language import DASH, Language
from cnnlab.report.tables import records

STYLE = """\
body { font: 16px/1.55 system-ui, sans-serif; color: #1b1b3a; background: #fff; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; padding-bottom: .2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; margin: 1rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #1b1b3a; } img { max-width: 100%; max-height: 48rem; }
@media print { html { font-size: 10.5px; } body { font-size: 1rem; max-width: none; margin: 0; }
               h2, h3 { break-after: avoid; }
               img, tr { break-inside: avoid; } img { max-height: 40rem; } .wide { overflow: visible; } }
code { font-size: .9em; overflow-wrap: anywhere; } td code { overflow-wrap: normal; } a { color: #1b5e8a; }
"""

Claim = tuple[str, str, str]  # a sentence, a file of the reports, and its rows: column: value, value; column: value
EVERY_ROW = "all"  # in place of a claim's rows
TEST_ACCURACY = "{test_accuracy:percent} ({test_accuracy_low:percent} – {test_accuracy_high:percent})"


@dataclass
class Page:
    """Blocks of Markdown, and the claims among their sentences, each with its source.

    The page is to be written beside `folder`, which holds its figures.
    """

    language: Language
    folder: Path
    blocks: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    def heading(self, english: str, level: int = 2) -> None:
        """Add a heading, given by its English message."""
        self.blocks.append(f"{'#' * level} {self.language(english)}")

    def claim(self, english: str, file: str, rows: str, **values: object) -> Claim:
        """Make a claim of a message with its values, for `say` and `bullets`."""
        return self.language(english, **values), file, rows

    def each(self, english: str, file: str, keys: str, rows: Sequence[dict[str, Any]], **values: object) -> list[Claim]:
        """Make one claim per record of `rows`; it cites the rows of `file` with the record's values of `keys`."""
        cited = ["; ".join(f"{key}: {row[key]}" for key in keys.split()) for row in rows]
        return [self.claim(english, file, each, **values | row) for each, row in zip(cited, rows, strict=True)]

    def say(self, *claims: Claim) -> None:
        """Add a paragraph of claims, each followed by the number of its source."""
        self.blocks.append(" ".join(map(self._cited, claims)))

    def sentence(self, english: str, file: str, rows: str, **values: object) -> None:
        """Add a paragraph of a single claim."""
        self.say(self.claim(english, file, rows, **values))

    def bullets(self, *claims: Claim) -> None:
        """Add a list of claims, each followed by the number of its source."""
        self.blocks.append("\n".join(f"- {self._cited(claim)}" for claim in claims))

    def _cited(self, claim: Claim) -> str:
        self.claims.append(claim)
        return f"{claim[0]} [[{len(self.claims)}]](#sources)"

    def text(self, english: str, **values: object) -> None:
        """Add a paragraph that needs no source, given by its English message and values."""
        self.note(self.language(english, **values))

    def note(self, text: str) -> None:
        """Add a paragraph that needs no source."""
        self.blocks.append(text)

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: int) -> None:
        """Add a table; columns from index `numbers` on are numeric and aligned to the right."""
        rule = ["---" if i < numbers else "---:" for i in range(len(headings))]
        self.blocks.append("\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)))

    def records(self, rows: Iterable[dict[str, Any]], columns: Mapping[str, str], numbers: int) -> None:
        """Add a table with one row per record; `columns` maps English headings to templates of their cells."""
        say = self.language
        cells = [[say.fill(template, row) for template in columns.values()] for row in rows]
        self.table([say(heading) for heading in columns], cells, numbers)

    def picture(self, name: str, english: str) -> None:
        """Add a figure, by its path relative to `folder`, with the English message of its caption."""
        link = posixpath.normpath(f"{self.folder.name}/{name}")
        self.blocks.append(f"![{self.language(english)}]({link})")

    def write(self) -> list[Path]:
        """Write the page as .md and .html beside `folder`, and its sources to claims.csv there; return both pages."""
        write_text(self.folder / "claims.csv", self.sources().to_csv(index=False))
        pages = [self.folder.with_suffix(suffix) for suffix in (".md", ".html")]
        for path, text in zip(pages, (self.markdown(), self.html()), strict=True):
            write_text(path, text)
        return pages

    def markdown(self, *, linked: bool = True) -> str:
        """The page with the list of its sources at the end; `linked` makes these links to the tables."""
        sources = self.sources()
        sources["file"] = sources["file"].map("[{0}]({0})".format if linked else "`{0}`".format)
        sources["run_ids"] = sources["run_ids"].map(lambda ids: " ".join(f"`{one[:8]}`" for one in ids.split()) or DASH)
        end = Page(self.language, self.folder, ['<a id="sources"></a>'])
        end.heading("Sources of the sentences")
        columns = {"sentence": "{number}", "table": "{file}", "rows": "{rows}", "MLflow runs": "{run_ids}"}
        end.records(records(sources), columns, 4)
        return "\n\n".join([*self.blocks, *end.blocks]) + "\n"

    def sources(self) -> pd.DataFrame:
        """One row per claim: its number, the sentence, the file and rows behind it, and their MLflow run IDs."""
        claims = [(number, *claim, self._run_ids(*claim[1:])) for number, claim in enumerate(self.claims, 1)]
        return pd.DataFrame(claims, columns=["number", "sentence", "file", "rows", "run_ids"])

    def _run_ids(self, file: str, rows: str) -> str:
        """The distinct MLflow run IDs in the cited rows."""
        table = pd.read_csv(self.folder.parent / file)
        for part in rows.split("; ") if rows != EVERY_ROW else ():
            column, values = part.split(": ")
            table = table[table[column].astype(str).isin(values.split(", "))]
        cells = table[[column for column in table if "run_id" in str(column)]].stack().dropna()
        return " ".join(dict.fromkeys(run_id for cell in cells for run_id in str(cell).split()))

    def html(self) -> str:
        """The page as a self-contained HTML file: figures are embedded, nothing is loaded."""
        body = MarkdownIt("commonmark").enable("table").render(self.markdown(linked=False))
        body = re.sub(r'<img src="([^"]+)"', lambda m: f'<img src="{self._embedded(m.group(1))}"', body)
        body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
        title = html.escape("; ".join(block.removeprefix("# ") for block in self.blocks if block.startswith("# ")))
        return (
            f'<!DOCTYPE html>\n<html lang="{self.language.code}">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
            f"<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
        )

    def _embedded(self, link: str) -> str:
        content = (self.folder.parent / link).read_bytes()
        return f"data:image/png;base64,{base64.b64encode(content).decode()}"
