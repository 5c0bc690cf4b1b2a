"""All comparisons: their sides, rows and targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from report import Row

PYTORCH = "PyTorch"
STREAMED = "images streamed"  # needs Imagenette
LOGICAL = ("2 replicas", "2 workers")  # need a machine without GPUs


@dataclass(frozen=True)
class Side:
    """A name in sides.py (or `torch`), the batch size, and the number of workers that share it."""

    name: str
    batch: int
    workers: int = 1


@dataclass(frozen=True)
class Comparison:
    """Sides that are measured in turns, and the rows of the table; `only` restricts it to machines with GPUs."""

    sides: Mapping[str, Side]
    rows: Sequence[Row]
    only: Literal["GPU"] | None = None


def images(title: str, ours: str, theirs: str, target: float | None = None) -> Row:
    """A row that compares images/s."""
    return Row(title, (ours, "images/s"), (theirs, "images/s"), target)


def peak(title: str, ours: str, target: float | None) -> Row:
    """A row for a training's share of the peak."""
    return Row(
        f"share of the matrix-product peak: {title}", (ours, "GFLOP/s"), ("peak", "GFLOP/s"), target, percent=True
    )


def share_of_input(title: str, training: str, alone: str) -> Row:
    """A row for the input's share of a training step; the sides are swapped because time is the inverse of speed."""
    return Row(
        f"input's share of a step: {title} (training against input only)",
        (training, "images/s"),
        (alone, "images/s"),
        target=0.1,
        at_most=True,
        percent=True,
    )


def tracking(title: str, figure: str) -> Row:
    """A row for the cost of tracking."""
    return Row(title, ("tracking", figure), ("tracking", "s per epoch"), target=0.01, at_most=True, percent=True)


COMPARISONS: dict[str, Comparison] = {
    "batch-32": Comparison(
        {
            "cnnlab": Side("cnnlab", 32),
            "script": Side("script", 32),
            "tf.data": Side("tf.data", 32),
            "tf.data, ours": Side("tf.data-ours", 32),
            PYTORCH: Side("torch", 32),
        },
        [
            images("batch 32: lesson's script", "cnnlab", "script", 1.5),
            images("batch 32: Keras fit on tf.data, Keras's augmentation layers", "cnnlab", "tf.data"),
            images("batch 32: Keras fit on tf.data, cnnlab's augmentation", "cnnlab", "tf.data, ours"),
            images("batch 32: PyTorch", "cnnlab", PYTORCH),
        ],
    ),
    "batch-128": Comparison(
        {
            "cnnlab": Side("cnnlab", 128),
            "script": Side("script", 128),
            "tf.data": Side("tf.data", 128),
            "tf.data, ours": Side("tf.data-ours", 128),
            PYTORCH: Side("torch", 128),
            "peak": Side("peak", 128),
        },
        [
            images("batch 128: lesson's script", "cnnlab", "script"),
            images("batch 128: Keras fit on tf.data, Keras's augmentation layers", "cnnlab", "tf.data", 1.4),
            images("batch 128: Keras fit on tf.data, cnnlab's augmentation", "cnnlab", "tf.data, ours", 1.4),
            images("batch 128: PyTorch", "cnnlab", PYTORCH, 1.2),
            peak("homework network, batch 128", "cnnlab", 0.6),
        ],
    ),
    "level": Comparison(
        {"improved": Side("improved", 128), "script": Side("script-level", 32)},
        [
            Row(
                "to 79 % test accuracy: 2 epochs of variant improved against 50 epochs of the lesson's script",
                ("improved", "seconds"),
                ("script", "seconds"),
                1 / 20,
                at_most=True,
                percent=True,
            )
        ],
    ),
    "speedrun": Comparison(
        {"batch 128": Side("speedrun", 128), "batch 512": Side("speedrun", 512), "peak": Side("peak", 128)},
        [
            peak("airbench network (64, 256, 256), batch 128", "batch 128", 0.8),
            peak("airbench network (64, 256, 256), batch 512", "batch 512", 0.8),
        ],
    ),
    "bfloat16": Comparison(
        {"cnnlab": Side("cnnlab-bfloat16", 128), "peak": Side("peak-bfloat16", 128)},
        [peak("homework network, batch 128, bfloat16", "cnnlab", None)],
        only="GPU",
    ),
    "devices": Comparison(
        {
            "no strategy": Side("plain", 128),
            "1 replica": Side("mirrored", 128),
            "2 replicas": Side("replicas", 128),
            "2 workers": Side("cnnlab", 128, workers=2),
        },
        [
            images("MirroredStrategy with one device: without it", "1 replica", "no strategy", 0.97),
            images("two logical CPUs: one", "2 replicas", "1 replica", 0.85),
            images("two worker processes: one", "2 workers", "1 replica", 0.75),
        ],
    ),
    "tracking": Comparison(
        {"tracking": Side("tracking", 32)},
        [
            tracking("tracking's share of an epoch of 45,000 images", "s of logging"),
            tracking("share of tracking and a checkpoint", "s of logging and checkpoint"),
        ],
    ),
    "input": Comparison(
        {
            "input": Side("input", 128),
            "generator": Side("generator", 128),
            "cnnlab": Side("cnnlab", 128),
            "everything": Side("input-everything", 128),
            "cnnlab, everything": Side("cnnlab-everything", 128),
        },
        [
            images("input only, lesson's augmentation: ImageDataGenerator", "input", "generator", 10),
            share_of_input("lesson's augmentation", "cnnlab", "input"),
            share_of_input("all augmentations", "cnnlab, everything", "everything"),
        ],
    ),
    "image-folder": Comparison(
        {STREAMED: Side("image-folder", 64), "training": Side("image-folder-in-memory", 64)},
        [images("JPEG files streamed at 96×96: training on the same images", STREAMED, "training", 2)],
    ),
}
