"""A written page whose every sentence names the rows of a table that it was made from; as Markdown, and as HTML."""

import base64
import html
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from markdown_it import MarkdownIt

from cnnlab.evidence.words import Language

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
code { font-size: .9em; overflow-wrap: anywhere; } td code { white-space: nowrap; } a { color: #1b5e8a; }
"""

Claim = tuple[str, str, str]  # a sentence, a file of the reports, and its rows: column: value, value; column: value
EVERY_ROW = "all"  # in place of a claim's rows


@dataclass
class Page:
    """Blocks of Markdown, and the sentences in them with their sources."""

    language: Language
    folder: Path
    blocks: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    def heading(self, english: str, level: int = 2) -> None:
        """A heading."""
        self.blocks.append(f"{'#' * level} {self.language(english)}")

    def say(self, *claims: Claim) -> None:
        """A paragraph of sentences, which become numbered sources."""
        self.blocks.append(" ".join(map(self._told, claims)))

    def bullets(self, *claims: Claim) -> None:
        """A list of sentences, which become numbered sources."""
        self.blocks.append("\n".join(f"- {self._told(claim)}" for claim in claims))

    def _told(self, claim: Claim) -> str:
        self.claims.append(claim)
        return f"{claim[0]} [[{len(self.claims)}]](#sources)"

    def note(self, text: str) -> None:
        """A paragraph about how to read, which claims nothing."""
        self.blocks.append(text)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> None:
        """A table whose columns from `numbers` on are numbers, aligned to the right."""
        rule = ["---" if i < numbers else "---:" for i in range(len(headings))]
        self.blocks.append("\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)))

    def picture(self, name: str, english: str) -> None:
        """A picture, named from `folder` on, with what it shows in words."""
        link = posixpath.normpath(f"{self.folder.name}/{name}")
        self.blocks.append(f"![{self.language(english)}]({link})")

    def markdown(self, *, linked: bool = True) -> str:
        """The page, which lies beside `folder`, with the sources of its sentences at the end, `linked` to the files."""
        rows = [
            [
                str(claim["number"]),
                f"[{claim['file']}]({claim['file']})" if linked else f"`{claim['file']}`",
                str(claim["rows"]),
                _short(str(claim["run_ids"])),
            ]
            for claim in self.sources().to_dict("records")
        ]
        end = Page(self.language, self.folder, ['<a id="sources"></a>'])
        end.heading("Where each sentence comes from")
        end.table([self.language(heading) for heading in ("sentence", "table", "rows", "MLflow runs")], rows, 4)
        return "\n\n".join([*self.blocks, *end.blocks]) + "\n"

    def sources(self) -> pd.DataFrame:
        """A row a sentence: its number, the sentence, the file it was made from, the rows of it, their MLflow runs."""
        claims = [(number, *claim, self._run_ids(*claim[1:])) for number, claim in enumerate(self.claims, 1)]
        return pd.DataFrame(claims, columns=["number", "sentence", "file", "rows", "run_ids"])

    def _run_ids(self, file: str, rows: str) -> str:
        """The MLflow runs that the rows name, each once."""
        table = pd.read_csv(self.folder.parent / file)
        for part in rows.split("; ") if rows != EVERY_ROW else ():
            column, values = part.split(": ")
            table = table[table[column].astype(str).isin(values.split(", "))]
        cells = table[[column for column in table if "run_id" in str(column)]].stack().dropna()
        return " ".join(dict.fromkeys(run_id for cell in cells for run_id in str(cell).split()))

    def html(self) -> str:
        """The page as one file that loads nothing: the pictures stand in it."""
        body = MarkdownIt("commonmark").enable("table").render(self.markdown(linked=False))
        body = re.sub(r'<img src="([^"]+)"', lambda m: f'<img src="{self._inline(m.group(1))}"', body)
        body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
        title = html.escape("; ".join(block.removeprefix("# ") for block in self.blocks if block.startswith("# ")))
        return (
            f'<!DOCTYPE html>\n<html lang="{self.language.code}">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
            f"<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
        )

    def _inline(self, link: str) -> str:
        content = (self.folder.parent / link).read_bytes()
        return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _short(run_ids: str) -> str:
    """The ids' first eight digits; claims.csv has them whole."""
    return " ".join(f"`{run_id[:8]}`" for run_id in run_ids.split()) or "–"
