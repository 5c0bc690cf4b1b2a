"""Pages in Markdown and HTML whose sentences cite the table rows that they were generated from."""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cnnlab.files import write_text
from cnnlab.report import html
from cnnlab.report.language import DASH, Language
from cnnlab.report.tables import records

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
    attached: list[str] = field(default_factory=list)  # files below the folder of the page that its HTML holds, too
    figures: int = 0

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
        number = len(self.claims)
        return f'{claim[0]} <a id="sentence-{number}" href="#source-{number}">[{number}]</a>'

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

    def picture(self, name: str, english: str, subject: str = "") -> None:
        """Add a numbered figure, by its path relative to `folder`, with the English message of its caption.

        `subject` follows the caption: the name of the network or data set, where several have such a figure.
        """
        self.figures += 1
        caption = self.language(english) + (f" ({subject})" if subject else "")
        link = posixpath.normpath(f"{self.folder.name}/{name}")
        numbered = self.language("Figure {number}. {caption}", number=self.figures, caption=caption)
        self.blocks.append(f"![{caption}]({link})\\\n*{numbered}*")

    def write(self) -> list[Path]:
        """Write the page as .md and .html beside `folder`, and its sources to claims.csv there; return both pages."""
        write_text(self.folder / "claims.csv", self.sources().to_csv(index=False))
        pages = [self.folder.with_suffix(suffix) for suffix in (".md", ".html")]
        for path, text in zip(pages, (self.markdown(), self.html()), strict=True):
            write_text(path, text)
        return pages

    def markdown(self) -> str:
        """The page with its contents, folded, after the first heading, and the list of its sources at the end."""
        first, *others = [*self.blocks, *self._sources()]
        summary = f"<details><summary>{self.language('Contents')}</summary>"
        return "\n\n".join([first, summary, html.contents([first, *others]), "</details>", *others]) + "\n"

    def html(self) -> str:
        """The page as a self-contained HTML file: figures and tables are embedded, nothing is loaded."""
        tables = Page(self.language, self.folder)
        if files := sorted({*self.attached, *(file for _, file, _ in self.claims)}):
            tables.heading("Tables")
            tables.text(
                "The tables behind the sentences and figures. Numbers have at most six digits, and run IDs eight; the "
                "downloads are complete."
            )
        blocks = [*self.blocks, *self._sources(), *tables.blocks]
        return html.document(blocks, self.folder.parent, files, self.language)

    def _sources(self) -> list[str]:
        """The list of sources: each row has a link to its sentence, and one to its table."""
        sources = self.sources()
        link = '<a id="source-{0}" href="#sentence-{0}">{0}</a>'
        sources["number"] = sources["number"].map(link.format)
        sources["file"] = sources["file"].map("[{0}]({0})".format)
        sources["run_ids"] = sources["run_ids"].map(lambda ids: " ".join(f"`{one[:8]}`" for one in ids.split()) or DASH)
        end = Page(self.language, self.folder)
        end.heading("Sources of the sentences")
        columns = {"sentence": "{number}", "table": "{file}", "rows": "{rows}", "MLflow runs": "{run_ids}"}
        end.records(records(sources), columns, 4)
        return end.blocks

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
