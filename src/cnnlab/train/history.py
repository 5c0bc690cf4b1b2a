"""What a training has shown so far, epoch by epoch, in a form that a checkpoint can hold."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sums:
    """Images trained on, the sum of their losses and the count of right answers."""

    images: int = 0
    loss: float = 0.0
    hits: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.images + other.images, self.loss + other.loss, self.hits + other.hits)

    def means(self) -> dict[str, float]:
        """Mean loss and accuracy."""
        return {"loss": self.loss / self.images, "accuracy": self.hits / self.images}


@dataclass
class Progress:
    """How far an epoch is: its next step, sums over it and over the curve's next point, seconds spent."""

    step: int = 0
    total: Sums = Sums()
    point: Sums = Sums()
    seconds: float = 0.0


@dataclass
class History:
    """What a training has shown: a row an epoch, and a finer curve with a point a compiled call.

    Epoch rows: epoch (from 1), loss, accuracy (both running, in training mode), val_loss, val_accuracy, learning_rate,
    seconds and images_per_s of training without validation, time (its end, ms since 1970). Curve points: epoch, images
    seen, loss, accuracy. `progress` is that of the epoch under way.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)

    def asdict(self) -> dict[str, Any]:
        """As plain lists and mappings, for JSON."""
        return asdict(self)

    @classmethod
    def fromdict(cls, record: dict[str, Any]) -> "History":
        """What `asdict` gave."""
        progress = record["progress"]
        sums = {name: Sums(**progress[name]) for name in ("total", "point")}
        return cls(record["epochs"], record["curve"], Progress(**{**progress, **sums}))
