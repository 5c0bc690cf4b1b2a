"""The section of the lesson on recognition before neural networks: classic methods and networks in one table."""

import math

from cnnlab.course.tables import METHODS, Course, Row
from cnnlab.data.store import read_card
from cnnlab.params import Params, runs, variants
from cnnlab.report.document import Page
from cnnlab.report.tables import records

# Columns of the table, and the metrics of networks in them
MEASURED = {
    "parameters": "parameters",
    "seconds": "train_seconds",
    "accuracy": "test_accuracy",
    "low": "test_accuracy_low",
    "high": "test_accuracy_high",
}


def write(course: Course, page: Page) -> None:
    """Write the section to `page`."""
    say = page.language
    page.heading("Before neural networks: templates, strokes, features")
    raster = (
        "**Raster**: the image, normalised for brightness and contrast, is compared with templates pixel by pixel: "
        "with the mean image of each class (nearest centroid), or with every training image (k-nearest neighbours, "
        "k = {k})."
    )
    structural = (
        "**Structural**: a decision tree uses the number of strokes that each row and column crosses, the number of "
        "holes, and the centre and spread of the foreground pixels."
    )
    features = "**Features**: histograms of oriented gradients (HOG), with a linear classifier or k-nearest neighbours."
    page.note("\n".join(f"- {say(each, k=3)}" for each in (raster, structural, features)))
    rows = compared(course)
    for row in rows:
        row["title"] = f"**{row['name']}**" if row["network"] else say.name(row["name"])
    columns = {
        "method": "{title}",
        "data set": "{data}",
        "training images": "{train_images:count}",
        "stored parameters": "{parameters:count}",
        "training time": "{seconds:seconds}",
        "images/s, prediction": "{images_per_s:count}",
        "test accuracy (95 % interval)": "{accuracy:percent} ({low:percent} – {high:percent})",
    }
    page.records(rows, columns, 2)
    page.picture("before.png", "Test accuracy of the classic methods and of the networks (dark)")
    page.text(
        "Networks are in bold, and dark in the figure. The classic methods learn from the images that remain for "
        "training beside the default validation set, or from a part of very large data sets. The test set was used "
        "once per method, for its score. Intervals of a single training run are over test images."
    )
    names = [str(name) for name in course.methods["data"].unique()]
    best = course.methods.sort_values("accuracy", kind="stable").drop_duplicates("data", keep="last").set_index("data")
    english = (
        "On {data}, the best of these methods is {method:name}: it classifies {accuracy:percent} of the test images "
        "correctly (n = 1), with {parameters:count} stored parameters."
    )
    page.say(*page.each(english, METHODS, "data method", records(best.loc[names].reset_index())))
    for name in names:
        page.picture(
            f"templates-{name}.png",
            "One column per class, at most ten: its template, an example, the example binarised, and its HOG cells",
            name,
        )


def compared(course: Course) -> list[Row]:
    """Methods and networks with the same keys, by data set; NaN for what was not measured."""
    rows = []
    speeds = {row["variant"]: row["images_per_s"] for row in course.seen}
    for data in dict.fromkeys(course.methods["data"]):
        for row in records(course.methods[course.methods["data"] == data]):
            rows.append(row | {"name": row["method"], "network": False, "seconds": row["fit_seconds"]})
        for name, variant in variants(course.parameters).items():
            if variant.data == data:
                row = {"data": data, "name": name, "network": True, "images_per_s": speeds.get(name, math.nan)}
                row["train_images"] = _training_images(course.parameters, name)
                rows.append(row | {key: course.metrics[name][metric] for key, metric in MEASURED.items()})
    return rows


def _training_images(parameters: Params, name: str) -> int:
    run = runs(parameters, name)[0]
    counts = read_card(run.data)["counts"]
    left = sum(counts["train"]) + sum(counts["validation"]) - run.validation
    return min(left, run.train_images or left)
