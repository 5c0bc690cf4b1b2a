"""The homework's page in both languages: its figures against the tables, its sentences against their sources."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evidence.finished import is_picture, write_ablation, write_run, write_sweep, write_transfer
from evidence.loads import Loads

from cnnlab import params
from cnnlab.data.catalog import CATALOG
from cnnlab.errors import UserError
from cnnlab.evidence import words
from cnnlab.evidence.evaluation import evaluate_variant
from cnnlab.evidence.findings import gather
from cnnlab.evidence.homework import write_homework
from cnnlab.evidence.page import EVERY_ROW
from cnnlab.evidence.words import Language
from cnnlab.nets import adapt, worked

pytestmark = pytest.mark.filterwarnings("ignore:.*``noload``")  # in MLflow's own code
SOURCE = Path(words.__file__).parent
SAYING = {"say", "language", "heading"}  # functions whose argument is told in the page's language


@pytest.fixture(scope="module", params=["en", "ru"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def parameters(two_seeds: params.Params, language: str) -> params.Params:
    """Two CIFAR-10 variants, a ladder from one to the other."""
    better = two_seeds.variants["lesson"].model_copy(update={"batch_size": 64, "epochs": 2})
    variants = {"lesson": two_seeds.variants["lesson"], "better": better}
    ablation = two_seeds.ablation.model_copy(update={"ladder": ["lesson", "better"]})
    report = params.Report.model_validate({"language": language})
    changes = {"variants": variants, "on_demand": {}, "ablation": ablation, "report": report}
    return two_seeds.model_copy(update=changes)


@pytest.fixture(scope="module")
def reports(top: Path, parameters: params.Params) -> Path:
    """The reports folder with the homework in it, after stages train, evaluate, sweep and ablate."""
    for name, rights, validation in (("lesson", (22, 23), 0.45), ("better", (40, 44), 0.85)):
        for run, right in zip(params.runs(parameters, name), rights, strict=True):
            write_run(run, right, validation_accuracy=validation)
        evaluate_variant(params.runs(parameters, name))
    write_ablation(top / "reports" / "ablation")
    write_sweep(top / "reports" / "sweep")
    write_transfer(top / "reports" / "transfer", lacking=["cifar100"])
    for path in write_homework(parameters):
        assert path.exists()
    return top / "reports"


@pytest.fixture(scope="module")
def claims(reports: Path) -> pd.DataFrame:
    return pd.read_csv(reports / "homework" / "claims.csv")


def selected(table: pd.DataFrame, rows: str) -> Iterator[pd.DataFrame]:
    """What `rows` names, in the form `column: value, value; column: value`, value by value."""
    if rows == EVERY_ROW:
        yield table
        return
    for part in rows.split("; "):
        column, values = part.split(": ")
        for value in values.split(", "):
            yield table[table[column].astype(str) == value]


def test_every_sentence_is_on_the_page_and_its_rows_are_in_their_table(reports: Path, claims: pd.DataFrame) -> None:
    page = (reports / "homework.md").read_text()
    assert len(claims) > 15
    for claim in claims.itertuples():
        assert f"{claim.sentence} [[{claim.number}]](#sources)" in page
        assert f"| {claim.number} | [{claim.file}]({claim.file}) | {claim.rows} | " in page
        table = pd.read_csv(reports / str(claim.file))
        for rows in selected(table, str(claim.rows)):
            assert len(rows), claim


def test_every_verdict_names_its_runs(claims: pd.DataFrame) -> None:
    told = claims[claims["file"].isin(["ablation/effects.csv", "ablation/ladder.csv"])]
    (gain,) = told[told["rows"] == "setting: batch normalisation"]["run_ids"]
    assert gain == "normalised-0 normalised-1 normalised-2 lesson-0 lesson-1 lesson-2"
    assert told["run_ids"].str.contains("lesson-0").all()
    assert not claims["run_ids"].str.contains("nan").any()


def test_verdicts_are_told_with_n_and_interval(claims: pd.DataFrame, language: str) -> None:
    told = claims[claims["file"] == "ablation/effects.csv"]["sentence"].tolist()
    points = {"en": ("+10.00", "−30.00"), "ru": ("+10,00", "−30,00")}[language]  # means of the differences above
    names = {"en": ("batch normalisation", "sigmoid", "tanh"), "ru": ("пакетная нормализация", "сигмоида", "тангенс")}
    improves, worsens, unknown = told
    for sentence, name, difference in ((improves, 0, points[0]), (worsens, 1, points[1])):
        assert names[language][name] in sentence
        assert difference in sentence
        assert "n = 3" in sentence
    assert names[language][2] in unknown
    assert "n = 3" in unknown


def test_the_best_is_chosen_by_validation_and_both_accuracies_are_told(claims: pd.DataFrame, language: str) -> None:
    chosen = claims["sentence"][claims["file"] == "homework/variants.csv"].tolist()
    first, both = chosen[:2]
    low, high, validation = {"en": ("45.00", "84.00", "85.00"), "ru": ("45,00", "84,00", "85,00")}[language]
    assert f"{high} %" in first  # 40 and 44 of 50 test images
    assert f"{low} %" in first  # 22 and 23 of 50
    assert first.startswith("better")
    assert f"{validation} %" in both
    assert f"{high} %" in both


def test_the_best_trial_is_a_complete_one_of_equals_the_cheapest(claims: pd.DataFrame, language: str) -> None:
    (best, baseline) = claims[claims["file"] == "sweep/trials.csv"].to_dict("records")
    assert {"en": "Of 4 trials 3 ", "ru": "Испытаний: 4, доведено до конца: 3"}[language] in best["sentence"]
    assert {"en": "trial 3,", "ru": "№ 3,"}[language] in best["sentence"]
    assert best["run_ids"] == "trial-0 trial-1 trial-2 trial-3 trial-4"
    assert baseline["rows"] == "trial: 0"
    (importances,) = claims[claims["file"] == "sweep/importances.csv"].to_dict("records")
    assert importances["run_ids"] == "trial-2 trial-3"
    assert {"en": "a hint, not evidence", "ru": "это намёк"}[language] in importances["sentence"]


def test_transfers_are_told_by_verdict_with_n_interval_and_runs(claims: pd.DataFrame, language: str) -> None:
    """Means of the differences in the tables: +20, 0 and −20 points."""
    helps, hurts, unknown = claims[claims["file"] == "transfer/effects.csv"].to_dict("records")
    verdicts = {"en": ("**Helps**", "**Hurts**", "No evidence"), "ru": ("**Помогает**", "**Вредит**", "Не доказано")}
    points = {"en": ("+20.00", "−20.00", "+0.00"), "ru": ("+20,00", "−20,00", "+0,00")}[language]
    for row, verdict, difference in zip((helps, hurts, unknown), verdicts[language], points, strict=True):
        assert row["sentence"].startswith(verdict)
        assert difference in row["sentence"]
        assert "n = 3" in row["sentence"]
    assert helps["run_ids"].split()[0] == "frozen-0.01-0"
    assert "100 %" in hurts["sentence"]


def test_what_is_not_available_is_told(reports: Path, claims: pd.DataFrame, language: str) -> None:
    (row,) = claims[claims["file"] == "transfer/lacking.csv"].to_dict("records")
    assert row["sentence"].startswith("**cifar100**")
    assert row["sentence"].endswith("The set is away.")
    told = {"en": "not available", "ru": "недоступно"}[language]
    assert f"| cifar100 | – | – | – | – | {told}: The set is away. |" in (reports / "homework.md").read_text()


def test_the_hidden_layer_would_not_fit_imagenet(claims: pd.DataFrame, language: str) -> None:
    """Two halvings of 224 leave 56, a valid convolution before each 2 and 1 less: 54 × 54 × 64 × 512 and 512."""
    (row,) = claims[claims["rows"] == "network: lesson; target: imagenet; part: head"].to_dict("records")
    assert {"en": "95,552,000", "ru": "95\u202f552\u202f000"}[language] in row["sentence"]
    assert 54 * 54 * 64 * 512 + 512 == 95_552_000


def test_classes_are_those_of_the_first_seeds(reports: Path) -> None:
    table = pd.read_csv(reports / "homework" / "classes.csv").set_index("class")
    # Of five images of each class the first 22 of 50 are right: of classes 0 and 1 three, else two; 40: four of each.
    assert table.loc["airplane", ["before", "after"]].tolist() == pytest.approx([0.6, 0.8])
    assert table.loc["truck", ["before", "after"]].tolist() == pytest.approx([0.4, 0.8])
    assert table["gain"].tolist() == sorted(table["gain"], reverse=True)


def test_mistakes_are_wrong_and_the_surest_first(reports: Path) -> None:
    table = pd.read_csv(reports / "homework" / "mistakes.csv")
    assert len(table) == 10  # of 50 images 40 are right
    assert (table["actual"] != table["predicted"]).all()
    assert np.diff(table["confidence"]).max() <= 0


def test_a_failed_training_is_told(claims: pd.DataFrame) -> None:
    (row,) = claims[claims["rows"].str.contains("ELU")].to_dict("records")
    assert "The training diverged." in row["sentence"]


def test_pictures_are_pictures(reports: Path) -> None:
    page = (reports / "homework.md").read_text()
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    names = {"forest", "ladder", "curves", "confusion", "mistakes", "calibration", "low_data"}
    assert {Path(link).stem for link in linked} == names
    for link in linked:
        assert is_picture(reports / link) or Path(link).stem == "mistakes", link


def test_the_html_loads_nothing(reports: Path, language: str) -> None:
    page = (reports / "homework.html").read_text()
    parser = Loads()
    parser.feed(page)
    assert parser.open == []
    assert parser.language == language
    assert len(parser.sources) == 7
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert 'id="sources"' in page
    assert page.count("<table>") == 7
    assert ("Ответ</h2>" in page) == (language == "ru")


def test_a_variant_on_demand_is_told_where_its_present_recipe_was_trained(
    reports: Path, parameters: params.Params, language: str
) -> None:
    name = f"extra-{language}"
    extra = parameters.variants["lesson"].model_copy(update={"epochs": 3})
    asked = parameters.model_copy(update={"on_demand": {name: extra}})
    assert list(gather(asked).variants["variant"]) == ["lesson", "better"]
    for run in params.runs(asked, name):
        write_run(run, 30)
    evaluate_variant(params.runs(asked, name))
    assert list(gather(asked).variants["variant"]) == ["lesson", "better", name]
    other = {"on_demand": {name: extra.model_copy(update={"batch_size": 8})}}
    assert list(gather(parameters.model_copy(update=other)).variants["variant"]) == ["lesson", "better"]
    (reports.parent / f"models/cifar10/{name}/seed-1/predictions.npz").unlink()
    with pytest.raises(UserError, match=rf"^Run {name} seed 1 is missing\. .* make train VARIANT={name} SEEDS=2$"):
        gather(asked)


def test_the_base_alone_is_compared_with_nothing(reports: Path, parameters: params.Params, language: str) -> None:
    """One variant, no ladder, a sweep on another data set, one seed of each change."""
    kept = (reports / "homework.md").read_text()
    ablation = parameters.ablation.model_copy(update={"ladder": []})
    sweep = parameters.sweep.model_copy(update={"base": "slides", "data": "mnist"})
    variants = {"lesson": parameters.variants["lesson"]}
    write_ablation(reports / "ablation", seeds=1, rungs=())
    write_homework(parameters.model_copy(update={"ablation": ablation, "sweep": sweep, "variants": variants}))
    page = (reports / "homework.md").read_text()
    say = Language("en" if language == "en" else "ru")
    for told in ("Which classes gained", "What the search adds", "The ladder: one change at a time"):
        assert say(told) in kept
        assert say(told) not in page
    assert "better" not in page
    assert "nan" not in page
    assert "(–" not in page  # an interval of nothing


def test_russian_has_a_word_for_all_that_is_said_and_no_other() -> None:
    """Every template that the page and its pictures use, read from their code."""
    constants, said = {"variant", "sentence", "improves", "worsens", "no evidence", *worked.TENSORS}, set()
    pages = (
        "question1",
        "question2",
        "page",
        "homework",
        "lesson",
        "lesson_before",
        "lesson_arithmetic",
        "lesson_networks",
        "lesson_seen",
    )
    figures = ("figures", "homework_figures", "lesson_figures", "../see/draw", "../see/portrait", "../see/course")
    for path in (*(SOURCE / f"{name}.py" for name in (*pages, *figures)), Path(adapt.__file__)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                constants.add(node.value)
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in SAYING:
                said |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    assert len(said) > 40
    assert said - {""} <= set(words.RUSSIAN) <= constants


def test_russian_has_every_reason_of_a_change() -> None:
    """In the code they are the sentences that say no docstring and no error."""
    reasons = {
        value.value
        for node in ast.walk(ast.parse(Path(adapt.__file__).read_text()))
        if isinstance(node, ast.Assign | ast.Call)
        for value in (node.args if isinstance(node, ast.Call) else [node.value])
        if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value.endswith(".")
    }
    assert len(reasons) >= 9
    assert reasons <= set(words.RUSSIAN)


@pytest.mark.parametrize("english", [*words.RUSSIAN, *words.NAMES])
def test_translations_keep_their_places(english: str) -> None:
    russian = {**words.RUSSIAN, **words.NAMES}[english]
    assert set(re.findall(r"{\w+}", russian)) == set(re.findall(r"{\w+}", english))


def test_shipped_factors_and_classes_have_russian_names(two_seeds: params.Params) -> None:
    known = {*words.NAMES, "leaky ReLU", "ELU", "softplus", "softsign", "SGD", "Adam", "Muon"}  # names as they are
    assert {*two_seeds.ablation.factors, *CATALOG["cifar10"].classes} <= known


def test_numbers_are_written_as_readers_write_them() -> None:
    english, russian = Language("en"), Language("ru")
    assert (english.percent(0.12345), russian.percent(0.12345)) == ("12.35 %", "12,35 %")
    assert (english.points(-1.5), russian.points(1.5)) == ("−1.50", "+1,50")
    assert (english.count(1234567), russian.count(1234567)) == ("1,234,567", "1\u202f234\u202f567")
    assert (english.seconds(125), russian.seconds(125)) == ("2 min 5 s", "2 мин 5 с")
    assert english.points(float("nan")) == "–"
    assert english.points(-0.001) == "+0.00"
