"""Languages of the reports: messages are English in the code; other languages are gettext catalogues in `locale`."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.messages.catalog import Catalog
from babel.messages.pofile import PoFileError, read_po
from babel.numbers import format_decimal

from cnnlab import files
from cnnlab.errors import UserError

NAME = "name"  # msgctxt of names: classes, factors, methods, parts and values of a recipe
DASH = "–"  # in place of a number that does not exist


@dataclass(frozen=True)
class Language:
    """Messages, names and numbers in one language of the reports.

    Placeholders in messages may have one of these format specifications: number, percent, points, each with a number
    of decimals as in `{share:percent.1}`; count, p_value, seconds, name, value, message. They call the method of that
    name. Raises UserError if the language has no catalogue or an invalid one.
    """

    code: str = files.ENGLISH

    def __post_init__(self) -> None:
        if self.code not in (known := files.languages()):
            raise UserError(f"Unknown language. Expected one of: {', '.join(known)}. Received: {self.code!r}.")
        if self.code != files.ENGLISH:
            catalogue(self.code)

    def __call__(self, english: str, **values: object) -> str:
        """Translate a message and fill in its placeholders. Raises UserError if the catalogue lacks the message."""
        return self.fill(self.message(english), values)

    def fill(self, template: str, values: dict[str, Any]) -> str:
        """Fill in the placeholders of a template that needs no translation."""
        return _Placeholders(self).vformat(template, (), values)

    def message(self, english: str) -> str:
        """Translate a message without placeholders, or leave its placeholders as they are."""
        translated = self._translated(english, None)
        if translated is None:
            path = files.catalogue(self.code)
            raise UserError(f"Incomplete {path}. Expected a msgstr for: {english!r}. Received: nothing.")
        return translated

    def name(self, english: str) -> str:
        """Translate the name of a class, a factor or a part of a recipe; unchanged if it has no translation."""
        return self._translated(english, NAME) or english

    def value(self, value: Any) -> str:
        """Format a value of a recipe: a number, a name, text with names and numbers in it, a list of these, or none."""
        if isinstance(value, list):
            return ", ".join(map(self.value, value))
        if str(value) in ("True", "False"):  # text, if it was read from a table
            return self.name(str(value).lower())
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return self.name("none")
        text = format(Decimal(repr(float(value))), "f") if isinstance(value, float) else str(value)
        named = re.sub(r"[a-z_]+(?: [a-z_]+)*", lambda words: self.name(words[0]), text)
        return re.sub(r"\d+\.(\d+)", lambda number: self.number(float(number[0]), len(number[1])), named)

    def number(self, value: float, decimals: int = 0) -> str:
        """Format a number; a dash for NaN and infinity."""
        return self._formatted(value, decimals, "{0};−{0}")

    def count(self, value: float) -> str:
        """Format an integer."""
        return self.number(value)

    def percent(self, share: float, decimals: int = 2) -> str:
        """Format a share in [0, 1] as a percentage."""
        return f"{self.number(100 * share, decimals)} %"

    def points(self, value: float, decimals: int = 2) -> str:
        """Format a difference with its sign; never −0.00."""
        return self._formatted(value, decimals, "+{0};−{0}")

    def p_value(self, p: float) -> str:
        """Format a p value to three decimals, or as below 0.001."""
        return f"< {self.number(0.001, 3)}" if p < 0.0005 else self.number(p, 3)

    def seconds(self, value: float) -> str:
        """Format a duration in minutes and seconds."""
        minutes, rest = divmod(round(value), 60)
        if minutes:
            return self("{minutes} min {seconds} s", minutes=minutes, seconds=rest)
        return self("{seconds} s", seconds=rest)

    def _translated(self, english: str, context: str | None) -> str | None:
        if self.code == files.ENGLISH:
            return english
        message = catalogue(self.code).get(english, context)
        return str(message.string) if message and message.string else None

    def _formatted(self, value: float, decimals: int, signs: str) -> str:
        """`signs` is a CLDR number pattern with {0} in place of the digits."""
        if not math.isfinite(value):
            return DASH
        pattern = signs.format("#,##0" + (f".{'0' * decimals}" if decimals else ""))
        return format_decimal(round(float(value), decimals) + 0.0, format=pattern, locale=self.code)


class _Placeholders(Formatter):
    """`str.format` with the format specifications of `Language`."""

    _KINDS = ("count", "number", "percent", "points", "p_value", "seconds", "name", "value", "message")

    def __init__(self, language: Language) -> None:
        self.language = language

    def format_field(self, value: Any, format_spec: str) -> str:
        kind, _, decimals = format_spec.partition(".")
        if kind not in self._KINDS:
            return str(super().format_field(value, format_spec))
        return str(getattr(self.language, kind)(value, *map(int, decimals)))


def catalogue(code: str) -> Catalog:
    """The catalogue of a language other than English.

    Raises UserError if its file is not a valid catalogue, or Babel does not know the language.
    """
    return _read(files.catalogue(code), code)


@cache
def _read(path: Path, code: str) -> Catalog:
    try:
        with path.open("rb") as stream:
            return read_po(stream, locale=Locale.parse(code), abort_invalid=True)
    except (PoFileError, UnknownLocaleError, ValueError) as error:  # ValueError: not UTF-8, or not a language code
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"Invalid {path}. Expected a gettext catalogue in UTF-8. Received: {reason}.") from error
