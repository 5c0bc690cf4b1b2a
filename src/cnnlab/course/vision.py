"""The section of the lesson on what trained networks see."""

from typing import Any

import pandas as pd

from cnnlab.report.document import Page
from cnnlab.report.tables import records

SEEN = "see/seen.csv"
DEPTHS = "see/depths.csv"


def write(seen: list[dict[str, Any]], depths: pd.DataFrame, page: Page) -> None:
    """Write the section to `page`; `seen` has one row per network that stage see drew, `depths` one per convolution."""
    page.heading("How a deep neural network sees")
    page.text(
        "For each data set, this shows the variant with the highest validation accuracy, on validation images. "
        "`make see VARIANT=name PICTURE=file` does the same for any trained network and image."
    )
    page.heading("Orientation selectivity", 3)
    page.text(
        "Hubel and Wiesel (1968) rotated a bar in front of an eye and found that cells of the visual cortex respond to "
        "one orientation. Here, the bar is rotated in front of the units of the first layer."
    )
    selective = (
        "{variant}: of {units} units of the first layer, {selective:percent.0} respond at least twice as strongly to "
        "their preferred orientation as to their least preferred one; with random weights, "
        "{untrained_selective:percent.0} do ({untrained_selective_low:percent.0} to "
        "{untrained_selective_high:percent.0} in {controls} untrained networks). The median selectivity index is "
        "{index:number.2}, untrained {untrained_index:number.2} ({untrained_index_low:number.2} to "
        "{untrained_index_high:number.2})."
    )
    page.bullets(*page.each(selective, SEEN, "variant", seen))
    for row in seen:
        tuning = f"../see/{row['variant']}/tuning.png"
        page.picture(
            tuning, "Response of units of the first layer to a bar at each angle, trained and untrained", row["variant"]
        )
    page.text(
        "What training adds, and what it does not: nearly every small filter with positive and negative weights "
        "prefers some orientation, so most of the selectivity is there before training, and a high share of selective "
        "units does not show that anything was learnt. Training accounts only for what exceeds the range of the "
        "untrained networks. The index is 0 if a unit responds to all angles alike and 1 if it responds to one only "
        "(one minus the circular variance, Ringach et al. 2002)."
    )
    _hierarchy(depths, page)
    _place(seen, page)
    for row in seen:
        _portrait(row, page)
    page.text("Such features help on other data, too; question 2 of the [homework](homework.md) measures how much.")


def _hierarchy(depths: pd.DataFrame, page: Page) -> None:
    """How well the classes can be read at each depth."""
    page.heading("The hierarchy of features", 3)
    page.text(
        "If deeper layers combine the features of earlier ones into more abstract ones, classes are easier to read "
        "from them. Here a linear classifier reads only the largest value of each feature map (Alain, Bengio 2016, "
        "arXiv:1610.01644; {images:count} validation images, {folds}-fold cross-validation), and the same for {seeds} "
        "untrained networks, which have the same layers and fields but no learnt features.",
        folds=5,
        **records(depths)[0],
    )
    columns = {
        "variant": "{variant}",
        "convolution": "{depth}",
        "receptive field": "{field}×{field}",
        "feature maps": "{maps}",
        "accuracy": "{accuracy:percent.1}",
        "accuracy, untrained": "{untrained:percent.1}",
    }
    page.records(records(depths), columns, 1)
    ends = depths.groupby("variant", sort=False).agg(["first", "last"])
    for variant, row in ends.iterrows():
        page.sentence(
            "{variant}: from the first convolution to the last, the accuracy goes from {first:percent.1} to "
            "{last:percent.1}; untrained, from {untrained_first:percent.1} to {untrained_last:percent.1} (n = 1 "
            "trained network, mean of {seeds} untrained ones).",
            DEPTHS,
            f"variant: {variant}",
            variant=variant,
            first=row["accuracy", "first"],
            last=row["accuracy", "last"],
            untrained_first=row["untrained", "first"],
            untrained_last=row["untrained", "last"],
            seeds=row["seeds", "first"],
        )


def _place(seen: list[dict[str, Any]], page: Page) -> None:
    """Accuracy on shifted and shuffled images."""
    page.heading("Does place matter to a network?", 3)
    page.text(
        "The handout says that because of pooling, a convolutional network does not mind whether the eyes of a cat are "
        "above or below its nose. Then images whose parts are shuffled would be recognised as well. They are shifted "
        "and shuffled here without training again; each image is shuffled in its own way."
    )
    moved = (
        "{variant}: {unchanged_0:percent.1} of {images:count} validation images are recognised; shifted by 4 pixels, "
        "{shifted_4:percent.1}; by 8 pixels, {shifted_8:percent.1}; with the four quarters shuffled, "
        "{shuffled_2:percent.1}; with 4×4 patches shuffled, {shuffled_4:percent.1} (n = 1)."
    )
    page.bullets(*page.each(moved, SEEN, "variant", seen))
    for row in seen:
        page.picture(
            f"../see/{row['variant']}/place.png",
            "Accuracy on shifted and shuffled images, with 95 % intervals over images",
        )
    page.text(
        "Convolutions and pooling move the feature maps along with the image. It is what follows that decides: a dense "
        "layer after `Flatten` has a weight for every place, global pooling has none. Shifts among the training images "
        "teach tolerance, too. Dense and convolutional networks that learn from shuffled pixels are compared above."
    )


def _portrait(row: dict[str, Any], page: Page) -> None:
    """The features of one network, and what its classes and decisions rest on."""
    page.note(f"### {row['variant']} ({row['data']})")
    folder = f"../see/{row['variant']}"
    page.picture(f"{folder}/filters.png", "Filters of the first layer", row["variant"])
    page.text(
        "Each filter of the first layer, from its smallest weight (dark) to its largest (bright); in colour if its "
        "input is."
    )
    page.picture(f"{folder}/maps.png", "Feature maps of one image, layer by layer", row["variant"])
    page.text(
        "The eight strongest feature maps of each layer; brighter is larger. Each filter produces its own map; deeper "
        "maps are coarser and respond to larger parts of the image."
    )
    page.picture(f"{folder}/patches.png", "Image patches that activate the most selective units most", row["variant"])
    page.text(
        "The most selective units of up to four depths, and the image patches that activate them most: the hierarchy "
        "of features, from spots and edges to parts of objects. Grey is outside the image."
    )
    page.picture(f"{folder}/maximised.png", "Input that maximises each class logit", row["variant"])
    page.text(
        "Activation maximisation: gradient ascent on the logit of each class, at most ten, from the mean colour of the "
        "data with a little noise."
    )
    page.picture(f"{folder}/attribution.png", "Attribution: saliency, Grad-CAM, occlusion sensitivity", row["variant"])
    page.text(
        "Darker is larger. Saliency: pixels that change the logit most. Grad-CAM: where the last feature maps support "
        "the class. Occlusion sensitivity: where a grey square lowers the probability of the class (dark) or raises it "
        "(bright). The last row is the most confident error, if there is one."
    )
    page.picture(f"{folder}/plane.png", "Activations of the last hidden layer in two dimensions", row["variant"])
    page.text(
        "t-SNE of the activations of the last hidden layer for validation images. Neighbourhoods are meaningful; axes "
        "and large distances are not."
    )
    neighbours = (
        "{neighbours:percent.1} of {images:count} images have a nearest neighbour of their own class in this plane."
    )
    page.say(*page.each(neighbours, SEEN, "variant", [row]))
