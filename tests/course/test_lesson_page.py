"""The lesson in both languages: printed beside measured numbers, sources of its sentences, figures, HTML."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from finished import is_picture, write_course
from loads import Loads
from loopback_server import Loopback
from playwright.sync_api import Page as Browsed
from readable import check_in_browser

from cnnlab import params
from cnnlab.course import arithmetic as lesson_arithmetic
from cnnlab.course import networks as lesson_networks
from cnnlab.course.before_networks import compared
from cnnlab.course.lesson_networks import LESSON as NETWORKS
from cnnlab.course.page import write_lesson
from cnnlab.course.tables import LESSON, gather
from cnnlab.evaluation.evaluate import evaluate_variant
from cnnlab.report.document import Page
from cnnlab.report.language import Language
from cnnlab.tracking import store as tracking_store


@pytest.fixture(scope="module", params=["en", "ru"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def parameters(two_seeds: params.Params, language: str) -> params.Params:
    report = params.Report.model_validate({"language": language})
    return two_seeds.model_copy(update={"report": report})


@pytest.fixture(scope="module")
def written(top: Path, parameters: params.Params, run_ids: dict[str, list[str]]) -> Path:
    """The reports folder after stages train, evaluate, see and lesson."""
    for name in run_ids:
        evaluate_variant(params.runs(parameters, name))
    write_course(parameters, LESSON)
    write_lesson(parameters)
    return top / "reports"


def row(text: str, start: str) -> list[str]:
    """The cells of the first table row that starts with `start`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_network_is_compared_with_the_course(written: Path, language: str) -> None:
    say = Language(language)
    chapter = say("The lesson's four networks: printed in the course and measured here")
    page = (written / "lesson.md").read_text().split(f"## {chapter}\n")[1]
    detector, lenet5, slides, cifar10 = (row(page, say.name(network.title)) for network in NETWORKS.values())
    point = {"en": ".", "ru": ","}[language]
    assert detector[1] == detector[2] == say("output {output:number.1}", output=3.0)
    assert lenet5[1] == f"90{point}69 %"
    assert lenet5[2].startswith(f"91{point}00 %")
    assert slides[1] == say("not printed")
    assert slides[2].startswith(f"99{point}00 %")
    # Student's half width of two values 0.02 apart: 12.7062 · 0.01
    assert cifar10[1:3] == [f"43{point}04 %", f"45{point}00 % (32{point}29 % – 57{point}71 %)"]
    count = {"en": ("421,642", "545,546", "1,250,858"), "ru": ("421\xa0642", "545\xa0546", "1\xa0250\xa0858")}
    assert slides[5:] == [count[language][0]] * 2
    assert (lenet5[6], cifar10[6]) == count[language][1:]
    assert {cells[4] for cells in (lenet5, slides, cifar10)} == {"2"}


def test_the_difference_from_the_course_cites_its_runs(
    written: Path, language: str, run_ids: dict[str, list[str]]
) -> None:
    claims = pd.read_csv(written / "lesson/claims.csv")
    claim = claims[claims["file"] == "evaluation/lenet5/runs.csv"].iloc[0]
    assert {"en": "+0.31", "ru": "+0,31"}[language] in claim["sentence"]  # 91.00 − 90.69
    assert "(n = 2)" in claim["sentence"]
    assert claim["run_ids"].split() == run_ids["lenet5"]


def test_every_sentence_is_on_the_page_and_its_rows_are_in_their_table(written: Path) -> None:
    page, claims = (written / "lesson.md").read_text(), pd.read_csv(written / "lesson/claims.csv")
    assert len(claims) == 11 + 6 + 2 + 2  # of short trainings, depths, and shifted and shuffled images
    for claim in claims.itertuples():
        number = claim.number
        assert f'{claim.sentence} <a id="sentence-{number}" href="#source-{number}">[{number}]</a>' in page
        assert f'| <a id="source-{number}" href="#sentence-{number}">{number}</a> |' in page
        table = pd.read_csv(written / str(claim.file))
        for part in str(claim.rows).split("; "):
            column, value = part.split(": ")
            assert (table[column].astype(str) == value).any(), claim


def test_the_slides_numbers_and_where_they_are_wrong(written: Path, language: str) -> None:
    text = (written / "lesson.md").read_text()
    assert "`[[1, 6, 5], [7, 10, 9], [7, 10, 8]]`" in text
    assert "`[[1, 5, 6], [7, 8, 3], [3, 10, 4]]`" in text
    assert "(28 − 3 + 2) / 1 + 1 = 28" in text
    assert "3 × 3 × 32 × 64 + 64" in text
    for name in ("sigmoid", "tanh", "relu", "leaky relu", "elu", "softplus", "softsign"):
        assert f"| {Language(language).name(name)} | " in text
    assert f"α = 0{'.' if language == 'en' else ','}1 | " in text
    assert "19,694,080" in text or "19\xa0694\xa0080" in text


def test_methods_and_networks_are_in_one_table(written: Path, parameters: params.Params) -> None:
    rows = compared(gather(parameters))
    assert [row["name"] for row in rows if row["network"]] == [
        "lenet5",
        "slides",
        "lesson",
        "lesson_longer",
        "improved",
    ]
    assert len(rows) == 10 + 5
    learnt = {row["name"]: row["train_images"] for row in rows}
    assert (learnt["slides"], learnt["lenet5"], learnt["lesson"]) == (48_000, 55_000, 45_000)
    speeds = {row["name"]: row["images_per_s"] for row in rows if row["network"]}
    assert (speeds["slides"], speeds["improved"]) == (9000, 9000)
    assert math.isnan(speeds["lenet5"])
    assert math.isnan(speeds["lesson"])


def test_the_pyramid_is_mentioned_only_if_it_holds(written: Path, parameters: params.Params, language: str) -> None:
    """The lesson's network: 32 × 32 × 32 units first, 512 last; one that widens has no pyramid."""
    course = gather(parameters)
    say = Language(language)
    sentence = say("The handout's pyramid: each network has fewer units in its last hidden layer than in its first.")
    first, last = course.anatomy["lesson"][0], course.anatomy["lesson"][-2]
    odd = {"odd": [first | {"bytes": 4}, last | {"layer": "Flatten", "bytes": 400}, last]}
    for anatomy, holds in ((course.anatomy, True), (odd, False)):
        page = Page(say, LESSON)
        lesson_arithmetic.anatomy(replace(course, anatomy=anatomy), page)
        assert (sentence in page.blocks) == holds
    assert f"| {say.count(32_768)} | {say.count(512)} | 16×16 |" in (written / "lesson.md").read_text()


def test_linked_files_exist(written: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (written / "lesson.md").read_text())
    assert len([link for link in links if link.endswith(".png")]) == 37
    for link in links:
        assert (written / link).is_file() or link == "homework.md", link
    for name in ("before", "curves", "lesson-confusion"):
        assert is_picture(written / f"lesson/{name}.png"), name


def test_the_html_loads_nothing_and_is_in_its_language(written: Path, language: str) -> None:
    page = (written / "lesson.html").read_text()
    parser = Loads()
    parser.feed(page)
    assert parser.open == []
    assert parser.language == language
    assert len(parser.sources) == 37
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    heading = {"en": "Receptive field", "ru": "Рецептивное поле"}[language]
    assert re.search(rf'<h2 id="[^"]+">{heading}', page)
    assert parser.broken() == []


def test_the_html_is_readable_in_a_browser(
    written: Path, page: Browsed, loopback: Callable[[Path], Loopback], asked_elsewhere: list[str]
) -> None:
    check_in_browser(page, f"{loopback(written).url}/lesson.html")
    assert asked_elsewhere == []


def test_the_page_and_its_tables_are_artifacts_of_a_run(written: Path) -> None:
    store = mlflow.MlflowClient(tracking_store.tracking_uri())
    run = store.search_runs([store.get_experiment_by_name("reports").experiment_id])[0]  # the latest
    assert run.info.run_name == "lesson, budget laptop"
    assert run.info.status == "FINISHED"
    for path in ("lesson.html", "lesson/methods.csv", "see/slides/plane.png"):
        kept = Path(store.download_artifacts(run.info.run_id, path))
        assert kept.read_bytes() == (written / path).read_bytes()
    assert "lesson.md" not in {artifact.path for artifact in store.list_artifacts(run.info.run_id)}


def test_a_network_that_no_variant_trains_is_reported(written: Path, parameters: params.Params, language: str) -> None:
    course = gather(parameters)
    page = Page(Language(language), LESSON)
    lesson_networks.write(course.networks, {"slides": course.metrics["slides"]}, course.runs, page)
    cells = row("\n".join(page.blocks), "LeNet-5")
    assert cells[2].startswith(
        {"en": "not trained: no variant lenet5", "ru": "не обучена: нет варианта lenet5"}[language]
    )
    assert cells[3:5] == ["–", "–"]


def test_lenet5_is_beside_the_one_published(written: Path, language: str) -> None:
    """LeCun et al. 1998, section II.B: 60,000 trainable parameters, 156 in C1 to 10,164 in F6."""
    say = Language(language)
    page = (written / "lesson.md").read_text().split(say("LeNet-5 in 1998 and in the handout"))[1]
    found = {name: row(page, name) for name in ("C1", "S2", "C3", "S4", "C5", "F6")}
    published = {"C1": 156, "S2": 12, "C3": 1516, "S4": 32, "C5": 48_120, "F6": 10_164}
    assert {name: cells[2] for name, cells in found.items()} == {k: say.count(v) for k, v in published.items()}
    assert sum(published.values()) == 60_000
    assert found["S2"][1:] == ["14×14×6", "12", "27×27×6", "0", "14×14×6", "0"]
    assert found["F6"][1:] == ["84", *map(say.count, (10_164,)), "84", say.count(494_004), "84", say.count(10_164)]
    for total in (60_000, 545_546, 61_706, 5_880):
        assert say.count(total) in page.split("####")[0]


def test_the_control_is_beside_the_selectivity(written: Path, language: str) -> None:
    text = (written / "lesson.md").read_text()
    sentence = {
        "en": "with random weights, 70 % do (60 % to 80 % in 3 untrained networks)",
        "ru": "со случайными весами — 70 % (от 60 % до 80 %, необученных сетей: 3)",
    }[language]
    assert text.count(sentence) == 2


def test_short_trainings_say_their_images_steps_and_seeds(written: Path, language: str) -> None:
    say = Language(language)
    text = (written / "lesson.md").read_text()
    assert say.count(4096) in text
    assert {"en": "in 256 steps", "ru": "за 256 шагов"}[language] in text
    assert text.count("n = 3; ") == 6
