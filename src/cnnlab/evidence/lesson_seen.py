"""The course's page, how a network sees: its filters, answers, and what its decisions rest on."""

from collections.abc import Sequence
from typing import Any

from cnnlab.evidence.page import Claim, Page

SEEN = "lesson/seen.csv"


def write(seen: Sequence[dict[str, Any]], page: Page) -> None:
    """Write the chapter to `page`; `seen` has a row a network that was looked into."""
    say = page.language
    page.heading("How a deep neural network sees")
    page.note(
        say(
            "Of each data set the variant with the highest validation accuracy is looked into, with validation "
            "pictures. `make see VARIANT=name PICTURE=file` does it for any trained network and picture."
        )
    )
    page.heading("Cells that answer to lines", 3)
    page.note(
        say(
            "Hubel and Wiesel (1968) turned a bar before an eye and heard cells of the visual cortex answer to "
            "one angle. Here the bar is turned before the units of the first layer."
        )
    )
    page.bullets(*[_tuned(row, page) for row in seen])
    for row in seen:
        page.picture(
            f"{row['variant']}/tuning.png", "How strongly units of the first layer answer to a bar at each angle"
        )
    for row in seen:
        page.note(f"### {row['variant']} ({row['data']})")
        for name, caption, told in _pictures(page):
            page.picture(f"{row['variant']}/{name}.png", caption)
            page.note(told)
        page.say(_near(row, page))
    page.note(
        say(
            "Such features serve other data, too: the second question of the [homework's page](homework.md) measures "
            "it."
        )
    )


def _pictures(page: Page) -> list[tuple[str, str, str]]:
    """The pictures of one network in their order: file, what it shows, how to read it."""
    say = page.language
    return [
        (
            "filters",
            "The filters of the first layer",
            say(
                "Each filter of the first layer, from its darkest weight to its brightest; in colour where it sees "
                "colour."
            ),
        ),
        (
            "maps",
            "Feature maps of one picture, layer by layer",
            say(
                "Feature maps, the eight strongest of each layer: every filter makes a map of its own; deeper ones "
                "are coarser and answer to larger parts."
            ),
        ),
        (
            "exciting",
            "The parts of pictures that excite a unit most",
            say(
                "Units that are most choosy among the pictures, in the first and in the last maps, and the parts "
                "that excite them most: the hierarchy of features, from spots and edges to parts of things. Grey: "
                "outside the picture."
            ),
        ),
        (
            "wanted",
            "The picture that each class would like most",
            say(
                "Activation maximisation: for each class, ten at most, what the climb from the data's mean colour "
                "with a little noise towards a large logit arrives at."
            ),
        ),
        (
            "attribution",
            "What decisions rest on: saliency, Grad-CAM, occlusion",
            say(
                "Dark is much. Saliency: pixels that move the logit. Grad-CAM: where the last maps speak for the "
                "class. Occlusion: where a grey square lowers its probability (dark) or raises it (light). The "
                "surest mistake is last, where there is one."
            ),
        ),
        (
            "plane",
            "The last hidden layer's answers on a plane",
            say(
                "The last hidden layer's answers to validation pictures, on a plane by t-SNE: neighbours mean "
                "something, axes and far distances do not."
            ),
        ),
    ]


def _tuned(row: dict[str, Any], page: Page) -> Claim:
    told = page.language(
        "{variant}: of {units} units of the first layer {share} answer at least twice as strongly to their best "
        "angle as to their worst.",
        variant=row["variant"],
        units=row["units"],
        share=page.language.percent(row["selective"], 0),
    )
    return told, SEEN, f"variant: {row['variant']}"


def _near(row: dict[str, Any], page: Page) -> Claim:
    told = page.language(
        "Of {images} pictures {share} have a nearest neighbour of their own class on this plane.",
        images=page.language.count(row["images"]),
        share=page.language.percent(row["neighbours"], 1),
    )
    return told, SEEN, f"variant: {row['variant']}"
