"""Metrics of logits against labels. Imports no TensorFlow, so that stages which only read predictions start fast."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from scipy.stats import binomtest, t
from sklearn.metrics import confusion_matrix

from cnnlab.train.scores import score

# Columns that stage evaluate adds to runs.csv and metrics.json, from the logits (images, classes) and the labels
# (images,) of the test images.
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "confidence": lambda logits, _: float(confidences(logits).mean()),
    "calibration_error": lambda logits, labels: calibration(logits, labels)[1],
}


def coarse_accuracy(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """Share of images predicted as a class of their own superclass; `groups` (classes,) numbers each class's."""
    return float((groups[logits.argmax(axis=1)] == groups[labels]).mean())


def classification(logits: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, Any]:
    """The 95 % Wilson interval of the accuracy over images, the recall of each class, and the confusion matrix.

    `logits` (images, classes), `labels` (images,). The matrix holds counts, true classes in rows, predicted in columns.
    """
    matrix = confusion_matrix(labels, logits.argmax(axis=1), labels=range(classes))
    interval = binomtest(int(np.trace(matrix)), len(labels)).proportion_ci(method="wilson")
    recall = np.diag(matrix) / np.maximum(matrix.sum(axis=1), 1)
    return {
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
        "recall": recall,
        "confusion": matrix,
    }


def confidences(logits: np.ndarray) -> np.ndarray:
    """Largest softmax probability of each row of `logits` (images, classes): float64 (images,)."""
    return np.asarray(softmax(logits.astype(np.float64), axis=1).max(axis=1))


def calibration(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> tuple[pd.DataFrame, float]:
    """Reliability diagram and expected calibration error (Guo et al. 2017, arXiv:1706.04599, equation 3).

    The table has one row per non-empty bin of equal width: number of `images`, their mean `confidence`, their
    `accuracy`. The error is the mean over images of their bin's |accuracy − confidence|. All shares are in [0, 1].
    """
    confidence = confidences(logits)
    correct = logits.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = pd.DataFrame({"bin": bin_of, "confidence": confidence, "accuracy": correct.astype(np.float64)})
    table = rows.groupby("bin").agg(
        images=("bin", "size"), confidence=("confidence", "mean"), accuracy=("accuracy", "mean")
    )
    error = (table["images"] * (table["accuracy"] - table["confidence"]).abs()).sum() / len(labels)
    return table.reset_index(drop=True), float(error)


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The number by which to divide `logits` (images, classes), so that their mean cross-entropy is least.

    It changes no prediction. Temperature scaling of Guo et al. 2017, arXiv:1706.04599, section 4.2; between 0.01 and
    100.
    """
    found = minimize_scalar(lambda log: score(logits / np.exp(log), labels)["loss"], bounds=(-4.6, 4.6))
    return float(np.exp(found.x))


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean of two or more independent runs and its 95 % Student t interval: (mean, low, high)."""
    mean = float(np.mean(values))
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half
