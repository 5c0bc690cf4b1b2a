"""The section of the lesson on fully connected layers: as matrices, beside convolutions, and on other inputs."""

import pandas as pd

from cnnlab.course.tables import CONTRASTS, Course
from cnnlab.report.document import Page
from cnnlab.report.tables import records

SENTENCES = {  # by what is compared
    "convolutional": (
        "{data}: the convolutional network is right on {accuracy:percent.1}, the dense one on "
        "{base_accuracy:percent.1}: {difference:points.1} points ({low:points.1} to {high:points.1}, n = {n}; "
        "{verdict:message})."
    ),
    "HOG": (
        "{data}: the dense network is right on {accuracy:percent.1} with HOG features and on "
        "{base_accuracy:percent.1} with pixels: {difference:points.1} points ({low:points.1} to {high:points.1}, "
        "n = {n}; {verdict:message})."
    ),
    "dense, shuffled": (
        "{data}: with the pixels of all images shuffled alike, the dense network is right on {accuracy:percent.1} "
        "in place of {base_accuracy:percent.1}: {difference:points.1} points ({low:points.1} to {high:points.1}, "
        "n = {n}; {verdict:message})."
    ),
    "convolutional, shuffled": (
        "{data}: the convolutional network, too, learns from shuffled pixels, but is right on {accuracy:percent.1} "
        "in place of {base_accuracy:percent.1}: {difference:points.1} points ({low:points.1} to {high:points.1}, "
        "n = {n}; {verdict:message})."
    ),
}


def write(course: Course, page: Page) -> None:
    """Write the section to `page`."""
    example, first = course.examples["dense"], course.networks["slides"]["layers"][0]
    units = 28 * 28 * int(first["output"].split("×")[2])
    page.heading("Fully connected layers")
    page.text(
        "Each input has a weight for each unit: a matrix product, plus biases. A convolution is a matrix product with "
        "few, repeated weights: the matrix of the slide's convolution with stride 2 has {weights} entries, {zeros} of "
        "them 0, and gives the same {outputs} numbers.",
        **example | {"outputs": len(example["outputs"])},
    )
    page.picture("matrix.png", "The slide's convolution with stride 2 as the matrix of a dense layer")
    page.text(
        "A fully connected layer with the same number of units ({units:count}) in place of the slides' first "
        "convolution would have {dense:count} parameters; the convolution has {convolution:count}.",
        units=units,
        dense=784 * units + units,
        convolution=first["parameters"],
    )
    page.text(
        "The matrix of a trained dense layer has no such pattern: each unit has weights of its own for all pixels. "
        "After a short training most of it is still the random initial matrix. What training has added to a row, shown "
        "as an image, is a blurred template of the whole image, where a convolution learns small local patterns."
    )
    for name in course.trainings["data"].unique():
        page.picture(
            f"weights-{name}.png",
            "The matrix of a dense layer after training; below, what training added to the weights of eight units",
        )
    _compared(course.trainings, course.contrasts, page)


def _compared(runs: pd.DataFrame, contrasts: pd.DataFrame, page: Page) -> None:
    """Dense and convolutional networks on pixels, shuffled pixels and hand-crafted features."""
    page.heading("The same images: dense or convolutional, pixels or hand-crafted features")
    page.text(
        "All networks of a data set have about as many parameters and learn from the same {train_images:count} images "
        "in {steps:count} steps (Adam, learning rate 0.001, batch 32). They are small and trained for seconds, so only "
        "differences between them count. Test images: {test_images:count}.",
        **records(runs)[0],
    )
    means = runs.groupby("setting", sort=False).agg(
        data=("data", "first"),
        network=("network", "first"),
        input=("input", "first"),
        parameters=("parameters", "first"),
        n=("seed", "size"),
        accuracy=("accuracy", "mean"),
        low=("accuracy", "min"),
        high=("accuracy", "max"),
    )
    columns = {
        "data set": "{data}",
        "network": "{network:message}",
        "input": "{input:message}",
        "parameters": "{parameters:count}",
        "n seeds": "{n}",
        "test accuracy (lowest – highest)": "{accuracy:percent.1} ({low:percent.1} – {high:percent.1})",
    }
    page.records(records(means), columns, 3)
    page.bullets(
        *(
            claim
            for kind, english in SENTENCES.items()
            for claim in page.each(
                english, CONTRASTS, "data compared", records(contrasts[contrasts["compared"] == kind])
            )
        )
    )
    page.text("The intervals are simultaneous over all of these comparisons: with a probability of 95 %, all hold.")
    page.text(
        "The slides' older order of work is image, preprocessing, hand-crafted features, network: it suits a small "
        "network and few images, because HOG already contains what convolutions would have to learn (edges and their "
        "directions). A convolutional network learns its features instead, which needs more images and steps; the "
        "table of classic methods and networks above has both."
    )
    page.text(
        "Does place matter? Not to a dense layer: shuffling the pixels permutes the rows of its matrix, which starts "
        "at random anyway, so the expected difference is exactly 0. A convolution assumes that neighbours belong "
        "together and that a pattern means the same everywhere; a shuffle takes away both."
    )
