"""Model card of a finished run: intended use, data, recipe, metrics and limits of the network."""

from collections.abc import Mapping
from typing import Any

from cnnlab import params
from cnnlab.data.store import Processed
from cnnlab.report.language import Language

NAMED_CLASSES = 20


def model_card(run: params.Run, data: Processed, metrics: Mapping[str, float], language: str) -> str:
    """The card in Markdown, in `language`, after Mitchell et al. 2019, arXiv:1810.03993."""
    say = Language(language)
    height, width, channels = data.card["shape"]
    classes, digests = data.card["classes"], data.card["digests"]
    names = ", ".join(map(say.name, classes[:NAMED_CLASSES])) + (", …" if len(classes) > NAMED_CLASSES else "")
    recipe = run.model_dump(exclude={"variant", "data", "seed"}, exclude_defaults=True, exclude_none=True)
    accuracies = {f"{part}_accuracy": say.percent(metrics[f"{part}_accuracy"]) for part in ("validation", "test")}
    losses = {f"{part}_loss": say.number(metrics[f"{part}_loss"], 3) for part in ("validation", "test")}
    blocks = [
        f"# {run.data}: {run.variant}",
        say(
            "Classifies images, uint8 of any height and width, greyscale, RGB or RGBA. Classes, {count}: {names}.",
            count=len(classes),
            names=names,
        ),
        say("## Data"),
        say(
            "{data} from {source}. Images of {height}×{width} pixels, channels: {channels}. SHA-256 of the training "
            "set {train}, of the test set {test}.",
            data=run.data,
            source=data.card["source"],
            height=height,
            width=width,
            channels=channels,
            **digests,
        ),
        say("## Training recipe"),
        say(
            "Variant `{variant}`; parameters: {parameters}; epochs: {epochs}; keys as in `params.yaml`:",
            variant=run.variant,
            parameters=say.count(metrics["parameters"]),
            epochs=say.count(metrics["epochs"]),
        ),
        "\n".join(f"- {key}: {_value(value)}" for key, value in recipe.items()),
        say("## Metrics"),
        say(
            "| images | accuracy | cross-entropy |\n|---|---:|---:|\n"
            "| validation | {validation_accuracy} | {validation_loss} |\n| test | {test_accuracy} | {test_loss} |",
            **accuracies,
            **losses,
        ),
        say("## Limits"),
        say(
            "- The network knows only these classes and assigns every image to one of them, whatever it shows; a high "
            "probability proves nothing.\n"
            "- Images are cropped at the centre and scaled to {height}×{width} pixels: small details and borders are "
            "lost.\n"
            "- The metrics hold for images like those of {data}; on other photographs the accuracy is lower, by an "
            "amount that was not measured.\n"
            "- One training, with seed {seed}. It was selected by its validation accuracy, which is therefore "
            "optimistic; the test images were not used for any selection.\n"
            "- Made for teaching: do not base decisions that matter on its predictions alone.",
            height=height,
            width=width,
            data=run.data,
            seed=run.seed,
        ),
    ]
    return "\n\n".join(blocks) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    return str(value)
