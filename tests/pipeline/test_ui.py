"""MLflow's page, as `make ui` serves it after `make repro`."""

import re
from collections.abc import Iterator

import pytest
import requests
from commands import Serve
from playwright.sync_api import Browser, Locator, Page, expect


@pytest.fixture(scope="module")
def ui(serve: Serve) -> Iterator[str]:
    """The address of `make ui`."""
    with serve("make ui") as address:
        yield address


@pytest.fixture
def page(ui: str, chromium: Browser) -> Iterator[Page]:
    """The list of experiments in a new browser session, with workflow type model training."""
    with chromium.new_context(base_url=ui, viewport={"width": 1500, "height": 900}) as context:
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.goto("/#/experiments")
        page.get_by_role("button", name="Close").click()  # the assistant
        page.get_by_role("button", name="Model training").click()
        yield page


def expect_visible(part: Locator) -> None:
    expect(part.first).to_be_visible(timeout=60_000)


def open_experiment(page: Page, experiment: str, run: str | None = None) -> None:
    """Open an experiment from the list, or one of its runs, which may be the first seed of a variant."""
    page.get_by_test_id("experiment-list-item-link").get_by_text(experiment, exact=True).click()
    if run:
        if run.endswith(" seed 0"):
            unfold(page, run.removesuffix(" seed 0"))
        page.get_by_role("link", name=run, exact=True).click()


def unfold(page: Page, run: str) -> None:
    """Show the child runs of a run."""
    row(page, re.compile(f"^{run}$")).get_by_role("button").first.click()


def row(page: Page, run: str | re.Pattern[str]) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=run))


def test_the_server_lists_the_experiments(ui: str) -> None:
    assert "MLflow" in requests.get(ui, timeout=30).text
    found = requests.get(f"{ui}/api/2.0/mlflow/experiments/search?max_results=10", timeout=30).json()
    assert {"mnist", "cifar10", "reports"} <= {experiment["name"] for experiment in found["experiments"]}


def test_the_list_describes_every_experiment(page: Page) -> None:
    descriptions = {
        "mnist": "Trainings on mnist",
        "cifar10": "Trainings on cifar10",
        "cifar10 sweeps": "PRUNED",
        "cifar10 ablations": "paired effects",
        "transfers": "frozen features",
        "reports": "the pipeline wrote",
    }
    for name, words in descriptions.items():
        line = page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))
        expect(line).to_contain_text(words, timeout=60_000)


def test_the_saved_view_shows_the_main_columns_first(page: Page) -> None:
    open_experiment(page, "cifar10")
    with page.context.expect_page() as opening:
        page.get_by_role("link", name=re.compile("columns")).click()
    view = opening.value
    for variant in ("lesson", "improved", "tuned"):
        unfold(view, variant)
        expect_visible(view.get_by_role("link", name=f"{variant} seed 0"))
    names = ("variant", "interval", "test_accuracy", "seeds", "validation_accuracy")
    headers = [view.get_by_role("columnheader", name=name, exact=True).first for name in names]
    positions = []
    for header in headers:
        expect_visible(header)
        positions.append((header.bounding_box() or {"x": -1})["x"])
    assert positions[0] > 0
    assert positions == sorted(positions)


def test_a_run_has_its_curves_and_system_metrics(page: Page) -> None:
    open_experiment(page, "cifar10", "improved seed 0")
    for tab, title in (("Model metrics", "curve_loss"), ("System metrics", "system/cpu_utilization_percentage")):
        page.get_by_role("tab", name=tab).click()
        card = page.get_by_test_id("experiment-view-compare-runs-card").filter(
            has=page.get_by_text(re.compile(f"^{title.removeprefix('system/')}$"))
        )
        expect_visible(card.locator(".js-plotly-plot .scatterlayer .trace"))


def test_two_variants_are_compared(page: Page) -> None:
    open_experiment(page, "cifar10")
    for variant in ("lesson", "improved"):
        unfold(page, variant)
    for run in ("lesson seed 0", "improved seed 0"):
        row(page, run).get_by_role("checkbox", name="Press Space to toggle row selection").check()
    page.get_by_role("button", name="Compare").click()
    expect_visible(page.get_by_text("Comparing 2 Runs from 1 Experiment"))
    for words in ("lesson seed 0", "improved seed 0", "optimizer.name"):
        expect_visible(page.get_by_role("table").get_by_text(words, exact=True))
    page.get_by_role("link", name="curve_loss", exact=True).click()
    expect_visible(page.locator(".js-plotly-plot .scatterlayer .trace"))
    for run in ("lesson seed 0", "improved seed 0"):
        expect_visible(page.get_by_text(f"{run} (curve_loss)", exact=True))


def test_trials_are_nested_below_their_sweep(page: Page) -> None:
    open_experiment(page, "cifar10 sweeps")
    expect_visible(row(page, re.compile("^sweep lesson-")))
    assert not page.get_by_role("link", name="trial 0", exact=True).count()
    row(page, re.compile("^sweep lesson-")).get_by_role("button").first.click()
    for trial in ("trial 0", "trial 1", "trial 2"):
        expect_visible(page.get_by_role("link", name=trial, exact=True))


def test_a_report_is_displayed_with_its_figures(page: Page) -> None:
    open_experiment(page, "reports", "reports, budget smoke")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("homework.html", exact=True).click()
    report = page.frame_locator("iframe")
    expect_visible(report.get_by_role("heading", name="The answer", exact=True))
    figure = report.locator("img").first
    figure.scroll_into_view_if_needed()
    assert figure.evaluate("image => image.naturalWidth") > 300
