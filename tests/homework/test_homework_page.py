"""The homework page in both languages: its numbers against the tables, its sentences against their sources."""

import base64
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from damage import DAMAGES
from finished import is_picture, write_ablation, write_leave_one_out, write_run, write_sweep, write_transfer
from loads import Loads
from loopback_server import Loopback
from playwright.sync_api import Page
from readable import check_in_browser

from cnnlab import params
from cnnlab.errors import UserError
from cnnlab.evaluation.evaluate import evaluate_variant
from cnnlab.files import MANIFEST, write_manifest
from cnnlab.homework.findings import STUDIES, VARIANTS, gather
from cnnlab.homework.page import write_homework
from cnnlab.homework.why import BY_NAME
from cnnlab.report.document import EVERY_ROW
from cnnlab.report.language import Language


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
    """The reports folder with the homework in it, after stages train, evaluate, sweep and ablate; without models."""
    for name, rights, validation in (("lesson", (22, 23), 0.45), ("better", (40, 44), 0.85)):
        for run, right in zip(params.runs(parameters, name), rights, strict=True):
            write_run(run, right, validation_accuracy=validation)
        evaluate_variant(params.runs(parameters, name))
    write_ablation(top / "reports" / "ablation")
    write_sweep(top / "reports" / "sweep")
    write_transfer(top / "reports" / "transfer", lacking=["cifar100"])
    if (top / "docs").is_symlink():
        results = (top / "docs").readlink() / "results"
        (top / "docs").unlink()
        shutil.copytree(results, top / "docs/results")
    write_leave_one_out(top / "docs/results/2999-01-01-leave-one-out")
    write_transfer(top / "docs/results/2999-01-01-transfer")
    shutil.rmtree(top / "models")
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
        number = claim.number
        assert f'{claim.sentence} <a id="sentence-{number}" href="#source-{number}">[{number}]</a>' in page
        row = f'| <a id="source-{number}" href="#sentence-{number}">{number}</a> '
        assert f"{row}| [{claim.file}]({claim.file}) | {claim.rows} | " in page
        table = pd.read_csv(reports / str(claim.file))
        for rows in selected(table, str(claim.rows)):
            assert len(rows), claim


def test_every_verdict_names_its_runs(claims: pd.DataFrame) -> None:
    found = claims[claims["file"] == "ablation/effects.csv"]
    gains = found[found["rows"] == "factor: batch normalisation"]["run_ids"]
    assert set(gains) == {"normalised-0 normalised-1 normalised-2 lesson-0 lesson-1 lesson-2"}
    assert found["run_ids"].str.contains("lesson-0").all()
    assert not claims["run_ids"].str.contains("nan").any()


def test_verdicts_have_n_and_interval(claims: pd.DataFrame, language: str) -> None:
    found = claims[claims["rows"].str.startswith("factor: ")]["sentence"].tolist()
    points = {"en": ("+10.00", "−30.00"), "ru": ("+10,00", "−30,00")}[language]  # means of the differences above
    names = {"en": ("batch normalisation", "sigmoid", "tanh"), "ru": ("пакетная нормализация", "сигмоида", "тангенс")}
    improves, worsens, unknown = found[:3]
    for sentence, name, difference in ((improves, 0, points[0]), (worsens, 1, points[1])):
        assert names[language][name] in sentence
        assert difference in sentence
        assert "n = 3" in sentence
    assert names[language][2] in unknown
    assert "n = 3" in unknown


def test_long_runs_are_quoted(reports: Path, claims: pd.DataFrame, language: str) -> None:
    """Of 35 single changes with five seeds; `tests/evaluation` checks the verdicts."""
    quotes = claims[claims["file"] == "homework/long_factors.csv"]["sentence"]
    assert quotes.str.contains("35").all()
    assert len(quotes) == 2
    accuracy = {"en": "94.43 % (92.78 % – 96.08 %)", "ru": "94,43 % (92,78 % – 96,08 %)"}[language]
    assert accuracy in (reports / "homework.md").read_text()


def test_leave_one_out_is_quoted_beside_each_change_on_its_own(
    reports: Path, claims: pd.DataFrame, language: str
) -> None:
    """Muon contributes 1.2 points to `improved`, and costs the lesson's network 5.99 in the long ablation."""
    quotes = claims[claims["file"] == "homework/long_ingredients.csv"]
    assert len(quotes)
    assert quotes["sentence"].str.contains("improved").all()
    gain, alone = {"en": ("+1.20", "−5.99"), "ru": ("+1,20", "−5,99")}[language]
    (row,) = [line for line in (reports / "homework.md").read_text().splitlines() if line.startswith("| Muon | 2 |")]
    assert gain in row.split("|")[3]
    assert alone in row.split("|")[5]


def test_each_change_is_explained_and_compared_with_the_explanation(claims: pd.DataFrame, language: str) -> None:
    explained = claims[claims["sentence"].str.contains("arXiv:1502.03167")]
    assert explained["rows"].tolist() == ["factor: batch normalisation", "ingredient: batch normalisation"]
    agreement = {"en": "The measurement agrees.", "ru": "Измерение согласуется."}[language]
    assert explained["sentence"].str.endswith(agreement).all()


def test_every_shipped_change_is_explained(two_seeds: params.Params) -> None:
    ablation = two_seeds.ablation
    assert {*ablation.factors, *ablation.leave_one_out, *ablation.ladder[1:]} == set(BY_NAME)


def test_the_best_is_chosen_by_validation_and_both_accuracies_are_reported(claims: pd.DataFrame, language: str) -> None:
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
    assert {"en": "Of 4 trials, 3 ", "ru": "Испытаний: 4, доведено до конца: 3"}[language] in best["sentence"]
    assert {"en": "trial 3,", "ru": "№ 3,"}[language] in best["sentence"]
    assert best["run_ids"] == "trial-0 trial-1 trial-2 trial-3 trial-4"
    assert baseline["rows"] == "trial: 0"
    (importances,) = claims[claims["file"] == "sweep/importances.csv"].to_dict("records")
    assert importances["run_ids"] == "trial-2 trial-3"
    assert {"en": "a hint, not evidence", "ru": "это намёк"}[language] in importances["sentence"]


def test_transfers_have_verdict_n_interval_and_runs(claims: pd.DataFrame, language: str) -> None:
    """Means of the differences in the tables: +20, 0, −20 and, of a change that was tried, −30 points."""
    tried, helps, hurts, unknown = claims[claims["file"] == "transfer/effects.csv"].to_dict("records")
    name = {"en": "half the filters −30.00 (95 %", "ru": "половина фильтров −30,00 (95%"}[language]
    assert name in tried["sentence"]
    assert tried["rows"] == "setting: mnist 1 from scratch half the filters"
    verdicts = {
        "en": ("**Helps**", "**Hurts**", "Inconclusive"),
        "ru": ("**Помогает**", "**Вредит**", "Данных мало"),
    }
    points = {"en": ("+20.00", "−20.00", "+0.00"), "ru": ("+20,00", "−20,00", "+0,00")}[language]
    for row, verdict, difference in zip((helps, hurts, unknown), verdicts[language], points, strict=True):
        assert row["sentence"].startswith(verdict)
        assert difference in row["sentence"]
        assert "n = 3" in row["sentence"]
    assert helps["run_ids"].split()[0] == "frozen-0.01-0"
    assert "100 %" in hurts["sentence"]


def test_the_accuracy_from_scratch_and_of_the_best_start_is_reported(claims: pd.DataFrame, language: str) -> None:
    """Means over three seeds on all images, and their top-5 accuracy."""
    scratch, best = claims[claims["file"] == "transfer/runs.csv"]["sentence"]
    for sentence, accuracy in ((scratch, "62.00"), (best, "42.00")):
        for number in (accuracy, "95.00"):
            assert {"en": number, "ru": number.replace(".", ",")}[language] + " %" in sentence


def test_a_long_study_of_transfers_is_quoted_with_its_folder(claims: pd.DataFrame, reports: Path) -> None:
    """It has the same trainings here, so its sentences are the same but for the folder, unless that introduces them."""
    _, introduced = (reports / "homework.md").read_text().split("(`docs/results/2999-01-01-transfer`)")
    for own, long in (("runs", "transfers"), ("effects", "transfer_effects")):
        sentences = claims[claims["file"] == f"transfer/{own}.csv"]["sentence"].tolist()
        quotes = claims[claims["file"] == f"homework/long_{long}.csv"]["sentence"].tolist()
        assert len(quotes) == len(sentences) > 1
        assert [quote.replace("; `docs/results/2999-01-01-transfer`", "") for quote in quotes] == sentences
        assert all("; `docs/results/2999-01-01-transfer`" in quote or quote in introduced for quote in quotes)


def test_imagenet_says_its_depth_and_its_hours(claims: pd.DataFrame, reports: Path, language: str) -> None:
    """1e12 FLOP in 12 s here; 1,281,167 images, 90 times."""
    depth, hours, decoding = claims["sentence"][claims["sentence"].str.contains("VGG|PFLOP|bfloat16")]
    assert {"en": "It was not trained", "ru": "не обучалась"}[language] in depth
    changes = pd.read_csv(reports / "transfer/changes.csv").query("network == 'improved' and target == 'imagenet'")
    cost, reading = (changes.set_index("part").loc[part, "after"] for part in ("cost", "reading"))
    flop = 90 * 1_281_167 * 1e6 * float(cost.split()[0])
    expected = flop / (1e12 / 12) / 3600
    plain = re.sub(r"(?<=\d)[\s,\xa0](?=\d{3})", "", hours)
    assert f" {expected:.0f} " in plain.replace("\xa0", " ")
    assert "90 " in plain
    plain = re.sub(r"(?<=\d)[\s,\xa0](?=\d{3})", "", decoding)
    assert str(round(float(reading.split()[2]))) in plain


def test_the_pair_that_is_confused_most_is_named(reports: Path, claims: pd.DataFrame) -> None:
    """The last ten of fifty images are taken for the next class: one error of each pair of neighbours."""
    table = pd.read_csv(reports / "homework/pairs.csv")
    assert table[["errors", "there", "back"]].to_numpy().tolist() == [[1, 1, 0]] * 3
    assert table["share"].tolist() == [0.1] * 3
    assert len(claims[claims["file"] == "homework/pairs.csv"]) == 3


def test_calibration_has_a_direction_and_a_temperature(claims: pd.DataFrame, language: str) -> None:
    """A logit of 4 against nine of 0 is a confidence of e⁴ / (e⁴ + 9) = 85.8 %; 45 and 84 % are right."""
    over, fair = claims["sentence"][
        claims["sentence"].str.contains({"en": "Logits divided by", "ru": "логиты на"}[language])
    ]
    assert {"en": "overconfident", "ru": "слишком уверена"}[language] in over
    assert {"en": "about as confident", "ru": "примерно настолько"}[language] in fair


def test_what_is_unavailable_is_reported(reports: Path, claims: pd.DataFrame, language: str) -> None:
    (row,) = claims[claims["file"] == "transfer/lacking.csv"].to_dict("records")
    assert row["sentence"].startswith("**cifar100**")
    assert row["sentence"].endswith("The set is away.")
    found = {"en": "unavailable", "ru": "недоступно"}[language]
    assert f"| cifar100 | – | – | – | – | {found}: The set is away. |" in (reports / "homework.md").read_text()


def test_the_hidden_layer_would_not_fit_imagenet(claims: pd.DataFrame, language: str) -> None:
    """Two halvings of 224 leave 56, a valid convolution before each 2 and 1 less: 54 × 54 × 64 × 512 and 512."""
    (row,) = claims[claims["rows"] == "network: lesson; target: imagenet; part: head"].to_dict("records")
    assert {"en": "95,552,000", "ru": "95\xa0552\xa0000"}[language] in row["sentence"]
    assert 54 * 54 * 64 * 512 + 512 == 95_552_000


def test_parts_of_a_recipe_are_translated(reports: Path, language: str) -> None:
    """The table on the page is translated, the CSV is not."""
    page = (reports / "homework.md").read_text()
    head = {"en": "`flatten, dense 512`", "ru": "`вытягивание в вектор (flatten), полносвязный слой 512`"}[language]
    crop = {"en": "`crop 0.35`", "ru": "`обрезка 0,35`"}[language]
    assert head in page
    assert crop in page
    assert "crop 0.35" in pd.read_csv(reports / "transfer/changes.csv")["after"].tolist()


def test_classes_are_those_of_the_first_seeds(reports: Path) -> None:
    table = pd.read_csv(reports / "homework" / "classes.csv").set_index("class")
    # Of five images of each class the first 22 of 50 are right: of classes 0 and 1 three, else two; 40: four of each.
    assert table.loc["airplane", ["before", "after"]].tolist() == pytest.approx([0.6, 0.8])
    assert table.loc["truck", ["before", "after"]].tolist() == pytest.approx([0.4, 0.8])
    assert table["gain"].tolist() == sorted(table["gain"], reverse=True)


def test_errors_are_errors_and_the_most_confident_come_first(reports: Path) -> None:
    table = pd.read_csv(reports / "homework" / "mistakes.csv")
    assert len(table) == 10  # of 50 images 40 are right
    assert (table["actual"] != table["predicted"]).all()
    assert np.diff(table["confidence"]).max() <= 0


def test_a_failed_run_is_reported(claims: pd.DataFrame) -> None:
    (row,) = claims[claims["rows"].str.contains("ELU")].to_dict("records")
    assert "The training diverged." in row["sentence"]


def test_figures_are_images(reports: Path) -> None:
    page = (reports / "homework.md").read_text()
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    names = {"forest", "ladder", "curves", "confusion", "pairs", "mistakes", "calibration", "low_data"}
    assert {Path(link).stem for link in linked} == names
    for link in linked:
        assert is_picture(reports / link) or Path(link).stem in ("mistakes", "pairs"), link


def test_the_html_loads_nothing(reports: Path, language: str) -> None:
    page = (reports / "homework.html").read_text()
    parser = Loads()
    parser.feed(page)
    assert parser.language == language
    assert len(parser.sources) == 8
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert parser.open == parser.broken() == []
    assert len([link for link in parser.links if link.startswith("https://arxiv.org/abs/")]) > 2
    assert page.count("<figcaption>") == 8
    assert page.count("<table>") == page.count("<details>") - 1 + 12  # one <details> is the list of contents
    assert ("Ответ</h2>" in page) == (language == "ru")


def test_the_html_holds_the_tables_behind_it(reports: Path, claims: pd.DataFrame) -> None:
    page = (reports / "homework.html").read_text()
    for file in {*claims["file"], "ablation/runs.csv", "evaluation/better/runs.csv", "homework/calibration.csv"}:
        (data,) = re.findall(f'id="table-{re.escape(file.replace("/", "-"))}".*?</table>', page, re.DOTALL)
        assert data.count("<tr>") == 1 + len(pd.read_csv(reports / file))
        assert "...</td>" not in data
        content = base64.b64encode((reports / file).read_bytes()).decode()
        assert f'<a download="{Path(file).name}" href="data:text/csv;base64,{content}">' in page


def test_the_contents_lead_to_the_headings(reports: Path, language: str) -> None:
    page = (reports / "homework.md").read_text()
    answer = {"en": "- [The answer](#the-answer)", "ru": "- [Ответ](#ответ)"}[language]
    assert answer in page.split("\n## ")[0]
    for heading in re.findall(r"^##? (.+)$", page, re.MULTILINE):
        assert f"- [{heading}](#" in page


def test_the_html_is_readable_in_a_browser(
    reports: Path, page: Page, loopback: Callable[[Path], Loopback], asked_elsewhere: list[str]
) -> None:
    check_in_browser(page, f"{loopback(reports).url}/homework.html")
    assert asked_elsewhere == []


def test_a_variant_on_demand_is_reported_if_its_current_recipe_was_evaluated(
    reports: Path, parameters: params.Params, language: str
) -> None:
    name = f"extra-{language}"
    extra = parameters.variants["lesson"].model_copy(update={"epochs": 3})
    extended = parameters.model_copy(update={"on_demand": {name: extra}})
    assert list(gather(extended)[VARIANTS]["variant"]) == ["lesson", "better"]
    for run in params.runs(extended, name):
        write_run(run, 30)
    evaluate_variant(params.runs(extended, name))
    assert list(gather(extended)[VARIANTS]["variant"]) == ["lesson", "better", name]
    other = {"on_demand": {name: extra.model_copy(update={"batch_size": 8})}}
    assert list(gather(parameters.model_copy(update=other))[VARIANTS]["variant"]) == ["lesson", "better"]
    (reports / f"evaluation/{name}/runs.csv").unlink()
    with pytest.raises(UserError, match=rf"runs\.csv\. .*: missing\. .* python pipeline/evaluate.py {name} --seeds 2$"):
        gather(extended)


def test_an_evaluation_by_an_older_version_is_named(reports: Path, parameters: params.Params) -> None:
    path = reports / "evaluation/lesson/metrics.json"
    before = path.read_text()
    path.write_text(before.replace('"calibration_error"', '"error"'))
    write_manifest(path.parent)
    with pytest.raises(UserError, match=r"^Outdated .*'calibration_error'.* python pipeline/evaluate\.py lesson$"):
        gather(parameters)
    path.write_text(before)
    write_manifest(path.parent)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("file", [*STUDIES, f"ablation/{MANIFEST}", f"sweep/{MANIFEST}", f"transfer/{MANIFEST}"])
def test_a_damaged_table_of_a_study_is_named(
    reports: Path, parameters: params.Params, file: str, damage: Callable[[Path], object]
) -> None:
    path = reports / file
    content = path.read_bytes()
    damage(path)
    with pytest.raises(UserError) as refusal:
        gather(parameters)
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.write_bytes(content)
    folder = f"reports/{path.parent.name}"
    assert folder in str(refusal.value)
    assert str(refusal.value).endswith(f" To fix this, run: rm -r {folder} && make repro")
    assert "\n" not in str(refusal.value)
    gather(parameters)


def test_a_single_variant_is_compared_with_nothing(reports: Path, parameters: params.Params, language: str) -> None:
    """One variant, no ladder, a sweep on another data set, one seed of each change."""
    before = (reports / "homework.md").read_text()
    ablation = parameters.ablation.model_copy(update={"ladder": [], "leave_one_out": {}})
    sweep = parameters.sweep.model_copy(update={"base": "slides", "data": "mnist"})
    variants = {"lesson": parameters.variants["lesson"]}
    write_ablation(reports / "ablation", seeds=1, steps=())
    write_homework(parameters.model_copy(update={"ablation": ablation, "sweep": sweep, "variants": variants}))
    page = (reports / "homework.md").read_text()
    say = Language(language)
    for heading in ("Accuracy by class", "What the search adds", "The ladder: changes that accumulate"):
        assert say(heading) in before
        assert say(heading) not in page
    assert "better" not in page
    assert "nan" not in page
    assert "(–" not in page  # an interval of nothing
