"""The model card of a finished run: what the network is for, how it was made, how good it is, where its limits lie."""

from collections.abc import Mapping
from typing import Any

from cnnlab import params
from cnnlab.data.store import Processed

LIMITS = """\
- It knows these classes only and always answers with one of them, whatever the picture shows; a high probability is no
  proof.
- A picture is cut to its middle and scaled to {height}×{width} pixels: what is small in it, or at its edge, is lost.
- The figures hold for pictures like those of {data}. Photographs of another kind do worse; how much was not measured.
- One training, seed {seed}. Validation chose this run among others, so its validation figures flatter; the test images
  chose nothing.
- Made for teaching. Nothing that matters to anybody should rest on its answers alone."""


def model_card(run: params.Run, data: Processed, metrics: Mapping[str, float]) -> str:
    """Data, recipe, figures and limits in Markdown, after Mitchell et al. 2019, «Model cards for model reporting»."""
    height, width, channels = data.card["shape"]
    classes = data.card["classes"]
    named = ", ".join(map(str, classes[:20])) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
    told = run.model_dump(exclude={"variant", "data", "seed"}, exclude_defaults=True, exclude_none=True)
    recipe = "\n".join(f"- {key}: {_value(value)}" for key, value in told.items())
    figures = "\n".join(
        f"| {part} | {metrics[f'{part}_accuracy']:.2%} | {metrics[f'{part}_loss']:.3f} |"
        for part in ("validation", "test")
    )
    limits = LIMITS.format(height=height, width=width, data=run.data, seed=run.seed)
    return f"""\
# {run.data}: {run.variant}

Takes pictures, uint8 of any height and width, grey, RGB or RGBA, and tells which of {len(classes)} classes each shows:
{named}.

## Data

{run.data} from {data.card["source"]}. Pictures of {height}×{width} pixels, {channels} channel{"s"[: channels > 1]}.
SHA-256 of the training part {data.card["digests"]["train"]}, of the test part {data.card["digests"]["test"]}.

## Recipe

Variant `{run.variant}`, {metrics["parameters"]:,.0f} parameters, {metrics["epochs"]:.0f} epochs.

{recipe}

## Figures

| part | accuracy | cross-entropy |
|---|---:|---:|
{figures}

## Limits

{limits}
"""


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    return str(value)
