"""History of a training, as a checkpoint stores it."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sums:
    """Number of images trained on, the sum of their losses, and the number classified correctly."""

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
    """Progress within an epoch: next step, sums over the epoch and over the curve's next point, seconds elapsed."""

    step: int = 0
    total: Sums = Sums()
    point: Sums = Sums()
    seconds: float = 0.0


@dataclass
class History:
    """One row per epoch, and a finer curve with one point per 32 steps, or what is left of an epoch.

    Epoch rows: epoch (from 1), loss, accuracy (both running, in training mode), val_loss, val_accuracy, learning_rate,
    seconds and images_per_s of training without validation, time (its end, ms since 1970). Curve points: epoch, images
    seen, loss, accuracy. `progress` describes the current epoch.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)

    def asdict(self) -> dict[str, Any]:
        """Convert to lists and mappings, for JSON."""
        return asdict(self)

    @classmethod
    def fromdict(cls, record: dict[str, Any]) -> "History":
        """Inverse of `asdict`."""
        progress = record["progress"]
        sums = {name: Sums(**progress[name]) for name in ("total", "point")}
        return cls(record["epochs"], record["curve"], Progress(**{**progress, **sums}))
