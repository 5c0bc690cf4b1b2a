"""The written reports: what the course prints beside what cnnlab measured."""

import json
from typing import Any
from uuid import uuid4

import pandas as pd

from cnnlab import track
from cnnlab.evidence import figures
from cnnlab.evidence.evaluation import EVALUATION, run_folder
from cnnlab.evidence.homework import FOLDER, write_homework
from cnnlab.files import REPORTS, write_text
from cnnlab.params import Params, runs, variants

LESSON = REPORTS / "lesson"


def write_reports(params: Params) -> None:
    """Write reports/lesson.md (course against cnnlab), results.md (every variant), homework.md, curves.csv, pictures.

    The same files become artifacts of an MLflow run in experiment `reports`.
    """
    networks = json.loads((LESSON / "networks.json").read_text())
    metrics = {name: json.loads((EVALUATION / name / "metrics.json").read_text()) for name in variants(params)}
    tables = {name: pd.read_csv(EVALUATION / name / "runs.csv") for name in variants(params)}
    _draw_curves(params)
    write_text(REPORTS / "results.md", results_table(params, metrics))
    write_text(REPORTS / "lesson.md", lesson_report(params, networks, metrics, tables))
    name, budget = f"reports, budget {params.budget}", {"budget": params.budget}
    tracker = track.Run.start(uuid4().hex, "reports", name, budget, {}, "The reports of one pipeline run.")
    for path in (REPORTS / "lesson.md", REPORTS / "results.md"):
        tracker.log_file(path)
    for path in sorted(LESSON.glob("*.png")):
        tracker.log_file(path, "lesson")
    for path in write_homework(params):
        tracker.log_file(path, "homework" if path.parent == FOLDER else None)
    tracker.finish()


def results_table(params: Params, metrics: dict[str, dict[str, Any]]) -> str:
    """Markdown table with a row a variant: what it is, its test accuracy with interval and n, cost."""
    rows = [
        "| variant | data set | network | parameters | epochs | test accuracy (95 % interval) | n seeds | images/s |",
        "|---|---|---|---:|---:|---|---:|---:|",
    ]
    for name, variant in variants(params).items():
        m = metrics[name]
        rows.append(
            f"| {name} | {variant.data} | {variant.network.name} | {m['parameters']:,.0f} | {m['epochs']:.0f} | "
            f"{_accuracy(m)} | {m['seeds']} | {m['images_per_s']:,.0f} |"
        )
    return "\n".join(rows) + "\n"


def lesson_report(
    params: Params, networks: dict[str, Any], metrics: dict[str, dict[str, Any]], tables: dict[str, pd.DataFrame]
) -> str:
    """Markdown page that sets the figures of the course beside the measured ones, network by network."""
    sections = [
        "# The lesson's four networks: what the course prints, what cnnlab measured",
        f"Budget `{params.budget}`. Every network was built layer for layer and trained with the recipe of the course. "
        "The test set was scored once, after training; validation images were set aside from the training images.",
        _comparison(networks, metrics),
        _notes(networks, metrics),
        "## Learning curves",
        "![Loss and accuracy against images seen](lesson/curves.png)",
        "Lines: training, the mean over the batches of a compiled call, smoothed. Markers: validation after an epoch. "
        "Training is measured with dropout and augmentation on, validation without: it can be better.",
        *[_network_section(network, metrics, tables) for network in networks.values()],
    ]
    return "\n\n".join(sections) + "\n"


def _comparison(networks: dict[str, Any], metrics: dict[str, dict[str, Any]]) -> str:
    rows = [
        "| network | the course prints | cnnlab | epochs | n seeds | parameters, course | parameters, cnnlab |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for network in networks.values():
        m = metrics.get(network["variant"])
        if "output" in network:
            course, ours = f"output {network['course_output']}", f"output {network['output']}"
        else:
            accuracy = network["course_accuracy"]
            course = f"test accuracy {100 * accuracy:.2f} %" if accuracy else "no accuracy"
            ours = (
                f"test accuracy {_accuracy(m)}" if m else f"not trained: no variant {network['variant']} in params.yaml"
            )
        printed = f"{network['course_parameters']:,}" if network["course_parameters"] else "not printed"
        epochs, seeds = (f"{m['epochs']:.0f}", m["seeds"]) if m else ("–", "–")
        rows.append(
            f"| {network['title']} | {course} | {ours} | {epochs} | {seeds} | {printed} | {network['parameters']:,} |"
        )
    return "\n".join(rows)


def _notes(networks: dict[str, Any], metrics: dict[str, dict[str, Any]]) -> str:
    notes = []
    for network in networks.values():
        m = metrics.get(network["variant"])
        if m and network["course_accuracy"]:
            difference = 100 * (m["test_accuracy"] - network["course_accuracy"])
            notes.append(f"- {network['title']}: {difference:+.2f} percentage points against the course's single run.")
    intervals = sorted({m["interval"] for m in metrics.values()})
    notes.append(
        f"- Intervals: {'; '.join(intervals)}. Wilson's interval covers the choice of test images, not the luck of the "
        "seed; `budget: full` trains five seeds."
    )
    notes.append(
        "- The course trains LeNet-5 and the CIFAR-10 network on all training images and validates on the test set."
    )
    return "\n".join(notes)


def _network_section(
    network: dict[str, Any], metrics: dict[str, dict[str, Any]], tables: dict[str, pd.DataFrame]
) -> str:
    lines = [f"## {network['title']}", ""]
    if "feature_map" in network:
        lines += [
            "The 8×8 picture, and the 6×6 feature map of the hand-set filter; its largest value is the output.",
            "",
        ]
        lines += ["```text", *_side_by_side(network["picture"], network["feature_map"]), "```", ""]
    name = network["variant"]
    if name in metrics:
        m = metrics[name]
        lines += [
            f"Trained {m['train_seconds']:.0f} s at {m['images_per_s']:,.0f} images/s. "
            f"Validation accuracy {100 * m['validation_accuracy']:.2f} %, test accuracy {_accuracy(m)}, "
            f"test loss {m['test_loss']:.4f} nats.",
            "",
            "| seed | validation accuracy | test accuracy | MLflow run |",
            "|---:|---:|---:|---|",
        ]
        lines += [
            f"| {row['seed']} | {100 * row['validation_accuracy']:.2f} % | {100 * row['test_accuracy']:.2f} % | "
            f"`{row['run_id']}` |"
            for row in tables[name].to_dict("records")
        ]
        lines += ["", f"![Confusion matrix of {name}](evaluation/{name}/confusion.png)", ""]
    lines += ["| layer | output | parameters |", "|---|---|---:|"]
    lines += [f"| {row['layer']} | {row['output']} | {row['parameters']:,} |" for row in network["layers"]]
    return "\n".join(lines)


def _draw_curves(params: Params) -> None:
    """The curves of the variants' first seeds: a table for `dvc plots`, and a picture of the lesson's networks."""
    curves = {}
    for name in variants(params):
        folder = run_folder(runs(params, name)[0])
        curves[name] = pd.read_csv(folder / "history.csv"), pd.read_csv(folder / "curve.csv")
    tidy = pd.concat(
        pd.DataFrame(
            {
                "variant": name,
                "images": curve["images"],
                **{metric: figures.smooth(curve, metric) for metric in ("loss", "accuracy")},
            }
        )
        for name, (_, curve) in curves.items()
    )
    write_text(REPORTS / "curves.csv", tidy.to_csv(index=False))
    networks = json.loads((LESSON / "networks.json").read_text()).values()
    lesson = {n["variant"]: curves[n["variant"]] for n in networks if n["variant"] in curves}
    if lesson:
        figures.learning_curves(LESSON / "curves.png", lesson)


def _accuracy(m: dict[str, Any]) -> str:
    low, high = 100 * m["test_accuracy_low"], 100 * m["test_accuracy_high"]
    return f"{100 * m['test_accuracy']:.2f} % ({low:.2f}–{high:.2f})"


def _side_by_side(left: list[list[int]], right: list[list[int]]) -> list[str]:
    width = 2 * len(left[0])
    right = right + [[]] * (len(left) - len(right))
    return [
        f"{' '.join(map(str, a)):<{width}}   {' '.join(map(str, b))}".rstrip() for a, b in zip(left, right, strict=True)
    ]
