"""Languages of reports: every catalogue against the code, its files, and number formats."""

import ast
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from babel.messages.catalog import Catalog, Message
from checkout import TOP
from pydantic import ValidationError

from cnnlab import files, params
from cnnlab.catalog import CATALOG
from cnnlab.course import examples as worked
from cnnlab.errors import UserError
from cnnlab.homework.why import MECHANISMS
from cnnlab.report.language import NAME, Language, catalogue
from cnnlab.studies.transfer import adapt

CNNLAB = Path(files.__file__).parent
# Functions whose first argument is a message
SAYING = {"say", "language", "heading", "self", "claim", "each", "text", "sentence"}
TRANSLATED = [code for code in files.languages() if code != files.ENGLISH]
VERDICTS = {"improves", "worsens", "no relevant effect", "inconclusive", "not tested"}
AS_THEY_ARE = {"leaky ReLU", "ELU", "softplus", "softsign", "SGD", "Adam", "Muon"}  # names that are not translated


def constants(paths: list[Path]) -> set[str]:
    """Every string constant in the code."""
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def sources() -> list[Path]:
    """The modules with messages of reports."""
    names = ("homework", "course", "see", "report", "studies", "train")
    return [path for name in names for path in (CNNLAB / name).rglob("*.py")]


def messages_in_code() -> set[str]:
    """Every message that the code passes to a language as a constant or its name, and every reason of `adapt`.

    Reasons are the sentences of that module other than docstrings and errors.
    """
    found: set[str] = set()
    for path in sources():
        nodes = [*ast.walk(ast.parse(path.read_text()))]
        assigned = [(ast.unparse(node.targets[0]), node.value) for node in nodes if isinstance(node, ast.Assign)]
        for node in nodes:
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in SAYING and node.args:
                name = ast.unparse(node.args[0])
                for message in (node.args[0], *(value for target, value in assigned if target == name)):
                    if isinstance(message, ast.Constant) and isinstance(message.value, str):
                        found.add(message.value)
    assert len(found) > 40
    reasons = {
        value.value
        for node in ast.walk(ast.parse(Path(adapt.__file__).read_text()))
        if isinstance(node, ast.Assign | ast.Call)
        for value in (node.args if isinstance(node, ast.Call) else [node.value])
        if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value.endswith(".")
    }
    assert len(reasons) >= 9
    return (found | reasons | {mechanism.text for mechanism in MECHANISMS}) - {""}


def entries(catalog: Catalog, context: str | None) -> dict[str, Message]:
    """The translated messages of a catalogue with a msgctxt, by their English."""
    return {str(m.id): m for m in catalog if m.id and m.string and m.context == context}


def lacking(catalog: Catalog) -> set[str]:
    """Messages of the code that a catalogue does not have."""
    return messages_in_code() - entries(catalog, None).keys()


@pytest.fixture
def locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the catalogues, in place of the package's."""
    shutil.copytree(files.LOCALE, tmp_path / "locale")
    monkeypatch.setattr(files, "LOCALE", tmp_path / "locale")
    return tmp_path / "locale"


def write(locale: Path, code: str, text: str) -> Path:
    path = locale / code / "LC_MESSAGES/cnnlab.po"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("code", TRANSLATED)
def test_a_catalogue_has_every_message_and_no_other(code: str) -> None:
    messages = entries(catalogue(code), None).keys()
    known = {"variant", "sentence", *VERDICTS, *worked.TENSORS} | constants(sources())
    assert lacking(catalogue(code)) == set()
    assert messages - known == set()


@pytest.mark.parametrize("code", TRANSLATED)
def test_a_catalogue_has_every_shipped_name_and_no_other(code: str, two_seeds: params.Params) -> None:
    names = entries(catalogue(code), NAME).keys()
    ablation = two_seeds.ablation
    tables = [pd.read_csv(path) for path in TOP.glob("docs/results/*/effects.csv")]
    named = [next(name for name in ("change", "ingredient", "setting") if name in table) for table in tables]
    long_runs = {name for table, column in zip(tables, named, strict=True) for name in table[column].dropna()}
    shipped = {*ablation.factors, *ablation.leave_one_out, *two_seeds.transfer.tried, *CATALOG["cifar10"].classes}
    shipped |= long_runs
    assert shipped - names <= AS_THEY_ARE
    known = constants([*CNNLAB.rglob("*.py")])
    words = {word for text in known for word in re.findall("[a-z]+(?: [a-z]+)*", text)}  # of cells: flatten, dense 512
    assert names - shipped - known - words == set()


@pytest.mark.parametrize("code", TRANSLATED)
def test_translations_have_the_same_placeholders(code: str) -> None:
    for message in catalogue(code):
        if message.id:
            english, translated = (
                sorted({*re.findall(r"{[^{}]+}", str(text))}) for text in (message.id, message.string)
            )
            assert translated == english, message.id


@pytest.mark.parametrize("code", TRANSLATED)
def test_a_header_names_its_language_and_its_plurals(code: str) -> None:
    text = files.catalogue(code).read_text()
    assert f'"Language: {code}\\n"' in text
    assert '"Plural-Forms: ' in text
    assert "#, fuzzy" not in text


def test_a_missing_entry_is_found_by_the_check_and_is_an_error(locale: Path) -> None:
    whole = files.catalogue("ru").read_text()
    path = write(locale, "ru", whole.replace('msgid "The answer"\nmsgstr "Ответ"\n', ""))
    assert path.read_text() != whole
    assert lacking(catalogue("ru")) == {"The answer"}
    with pytest.raises(UserError, match=r"^Incomplete .*ru/LC_MESSAGES/cnnlab\.po\. Expected a msgstr .*'The answer'"):
        Language("ru")("The answer")
    assert Language("ru").name("a new factor") == "a new factor"


def test_one_file_makes_a_language(locale: Path) -> None:
    header = 'msgid ""\nmsgstr ""\n"Language: de\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n\n'
    write(
        locale,
        "de",
        f'{header}msgid "The answer"\nmsgstr "Die Antwort für {{name}}"\n\n'
        'msgctxt "name"\nmsgid "bird"\nmsgstr "Vogel"\n',
    )
    say = Language("de")
    assert say("The answer", name="Zoë") == "Die Antwort für Zoë"
    assert (say.name("bird"), say.name("cat")) == ("Vogel", "cat")
    assert (say.count(1234567), say.percent(-0.5)) == ("1.234.567", "−50,00 %")
    assert params.Report.model_validate({"language": "de"}).language == "de"


@pytest.mark.parametrize("value", ["fr", 3, None, ["ru"]])
def test_params_names_the_languages_that_there_are(value: object, locale: Path) -> None:
    with pytest.raises(ValidationError, match="one of en, ru"):
        params.Report.model_validate({"language": value})
    write(locale, "de", "")
    with pytest.raises(ValidationError, match="one of en, de, ru"):
        params.Report.model_validate({"language": value})


def test_an_unknown_language_is_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match=r"^Unknown language\. Expected one of: en, ru\. Received: 'fr'\.$"):
        Language("fr")


@pytest.mark.parametrize(("code", "content"), [("ru", b'msgid "a"\nnonsense\n'), ("ru", b"\xff\xfe\n"), ("zz", b"")])
def test_a_broken_catalogue_is_an_error_of_one_line(code: str, content: bytes, locale: Path) -> None:
    write(locale, code, "").write_bytes(content)
    with pytest.raises(
        UserError, match=rf"^Invalid .*{code}/LC_MESSAGES/cnnlab\.po\. Expected a gettext catalogue [^\n]*$"
    ):
        Language(code)


def test_numbers_have_the_format_of_the_language() -> None:
    english, russian = Language("en"), Language("ru")
    assert (english.percent(0.12345), russian.percent(0.12345)) == ("12.35 %", "12,35 %")
    assert (english.points(-1.5), russian.points(1.5)) == ("−1.50", "+1,50")
    assert (english.count(1234567), russian.count(1234567)) == ("1,234,567", "1\xa0234\xa0567")
    assert (english.seconds(125), russian.seconds(125)) == ("2 min 5 s", "2 мин 5 с")
    assert (english.seconds(5), russian.seconds(5)) == ("5 s", "5 с")
    assert (english.p_value(0.0001), russian.p_value(0.25)) == ("< 0.001", "0,250")
    assert english.points(float("nan")) == "–"
    assert english.points(-0.001) == "+0.00"
    assert russian.number(-1234.5, 1) == "−1\xa0234,5"
