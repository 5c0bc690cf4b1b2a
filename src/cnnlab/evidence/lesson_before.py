"""The course's page, before neural networks: methods and networks in one table."""

from typing import Any

from cnnlab.data.store import read_card
from cnnlab.evidence.findings import records
from cnnlab.evidence.lesson_tables import METHODS, Course
from cnnlab.evidence.page import Claim, Page
from cnnlab.params import Params, runs, variants

Row = dict[str, Any]


def write(course: Course, page: Page) -> None:
    """Recognition before neural networks, in one table with the networks."""
    say = page.language
    page.heading("Before neural networks: templates, strokes, features")
    ways = [
        say(
            "**Raster**: a picture, its light and contrast evened out, is compared pixel by pixel with templates: "
            "with the mean of each class, or with every training picture (the {n} nearest vote).",
            n=3,
        ),
        say(
            "**Structural**: how often lines across the drawing meet ink, its holes, and where its ink lies go "
            "through a decision tree."
        ),
        say(
            "**Features**: how strong edges of each direction are in each part of the picture (as HOG has them), for a "
            "linear classifier or the nearest pictures."
        ),
    ]
    page.note("\n".join(f"- {way}" for way in ways))
    rows = compared(course)
    headings = ["", "data set", "training images", "numbers kept", "training time", "pictures told a second"]
    told = "test accuracy (95 % interval)"
    cells = [
        [
            f"**{row['name']}**" if row["network"] else say.name(row["name"]),
            row["data"],
            say.count(row["train_images"]),
            say.count(row["parameters"]),
            say.seconds(row["seconds"]),
            say.count(row["images_per_s"]) if row["images_per_s"] else "–",
            f"{say.percent(row['accuracy'])} ({say.percent(row['low'])[:-2]}–{say.percent(row['high'])[:-2]})",
        ]
        for row in rows
    ]
    page.table([say(name) if name else "" for name in (*headings, told)], cells, 2)
    page.picture("before.png", "Test accuracy of the methods before networks, and of networks (dark)")
    page.note(
        say(
            "Bold, dark in the picture: networks. Every method learnt from the images that variants without a "
            "validation size of their own learn from, of very large sets from a part; nothing was chosen by the test "
            "images, each scored once. Intervals of one training are over test images."
        )
    )
    page.say(*[claim for name in course.methods["data"].unique() for claim in _step(course, str(name), page)])
    for name in course.methods["data"].unique():
        page.picture(
            f"templates-{name}.png",
            "A class a column, ten at most: its template, a picture of it, its ink, and its edges",
        )


def _step(course: Course, name: str, page: Page) -> list[Claim]:
    say, table = page.language, course.methods[course.methods["data"] == name]
    best = records(table.sort_values("accuracy", kind="stable"))[-1]
    return [
        (
            say(
                "On {data} the best of these methods is {method}: right in {accuracy} of the test images (n = 1), "
                "and it keeps {count} numbers.",
                data=name,
                method=say.name(best["method"]),
                accuracy=say.percent(best["accuracy"]),
                count=say.count(best["parameters"]),
            ),
            METHODS,
            f"data: {name}; method: {best['method']}",
        )
    ]


def compared(course: Course) -> list[Row]:
    """Methods and networks, data set by data set, with the same keys; what was not measured is None."""
    rows = []
    speeds = {row["variant"]: row["images_per_s"] for row in course.seen}
    for data in dict.fromkeys(course.methods["data"]):
        for row in records(course.methods[course.methods["data"] == data]):
            own = {"name": row["method"], "network": False, "seconds": row["fit_seconds"]}
            rows.append(row | own)
        for name, variant in variants(course.parameters).items():
            m = course.metrics[name]
            if variant.data == data:
                rows.append(
                    {
                        "data": data,
                        "name": name,
                        "network": True,
                        "train_images": _learnt(course.parameters, name),
                        "parameters": m["parameters"],
                        "seconds": m["train_seconds"],
                        "images_per_s": speeds.get(name),
                        "accuracy": m["test_accuracy"],
                        "low": m["test_accuracy_low"],
                        "high": m["test_accuracy_high"],
                    }
                )
    return rows


def _learnt(parameters: Params, name: str) -> int:
    """How many images a variant learns from."""
    run = runs(parameters, name)[0]
    counts = read_card(run.data)["counts"]
    left = sum(counts["train"]) + sum(counts["validation"]) - run.validation
    return min(left, run.train_images or left)
