"""The section of the lesson on what trained networks see."""

from typing import Any

from cnnlab.report.document import Page

SEEN = "see/seen.csv"


def write(seen: list[dict[str, Any]], page: Page) -> None:
    """Write the section to `page`; `seen` has one row per network that stage see drew."""
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
        "their preferred orientation as to their least preferred one."
    )
    page.bullets(*page.each(selective, SEEN, "variant", seen))
    for row in seen:
        tuning = f"../see/{row['variant']}/tuning.png"
        page.picture(tuning, "Response of units of the first layer to a bar at each angle", row["variant"])
    for row in seen:
        _portrait(row, page)
    page.text("Such features help on other data, too; question 2 of the [homework](homework.md) measures how much.")


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
        "The most selective units of the first and of the last feature maps, and the image patches that activate them "
        "most: the hierarchy of features, from spots and edges to parts of objects. Grey is outside the image."
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
