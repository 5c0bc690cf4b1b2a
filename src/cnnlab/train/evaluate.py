"""Metrics of logits against labels. Imports no TensorFlow: stages that only read predictions start at once."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest, t
from sklearn.metrics import confusion_matrix


def score(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean cross-entropy (nats) and accuracy (share) of (n, classes) logits against (n,) labels.

    With more than five classes also top-5, ImageNet's second figure: the share of images whose class is among the five
    with the largest logits; of equal ones those that come first, as for the accuracy.
    """
    log_probability = log_softmax(logits.astype(np.float64), axis=1)
    largest = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    top5 = {"top5_accuracy": float((largest == labels[:, None]).any(axis=1).mean())}
    return {
        "loss": float(-log_probability[np.arange(len(labels)), labels].mean()),
        "accuracy": float((largest[:, 0] == labels).mean()),
        **(top5 if logits.shape[1] > 5 else {}),
    }


def coarse_accuracy(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """The share of images taken for a class of their own superclass; `groups` (classes,) numbers each class's."""
    return float((groups[logits.argmax(axis=1)] == groups[labels]).mean())


def classification(logits: np.ndarray, labels: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """`score`, the 95 % Wilson interval of the accuracy over images, recall of each class, and the confusion matrix.

    Rows of the matrix are true classes, columns predicted ones, entries counts.
    """
    matrix = confusion_matrix(labels, logits.argmax(axis=1), labels=range(len(classes)))
    interval = binomtest(int(np.trace(matrix)), len(labels)).proportion_ci(method="wilson")
    recall = np.diag(matrix) / np.maximum(matrix.sum(axis=1), 1)
    return {
        **score(logits, labels),
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
        "images": len(labels),
        "recall": {name: float(r) for name, r in zip(classes, recall, strict=True)},
        "confusion": matrix.tolist(),
    }


def calibration(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> tuple[pd.DataFrame, float]:
    """How far the confidences, the largest probability of each image, can be believed.

    A row a bin of equal width that has images: `images`, their mean `confidence`, their `accuracy`, shares of 1; and
    the expected calibration error, the mean over images of the bins' |accuracy − confidence| (Guo et al. 2017,
    arXiv:1706.04599, equation 3).
    """
    confidence = softmax(logits.astype(np.float64), axis=1).max(axis=1)
    right = logits.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = pd.DataFrame({"bin": bin_of, "confidence": confidence, "accuracy": right.astype(np.float64)})
    table = rows.groupby("bin").agg(
        images=("bin", "size"), confidence=("confidence", "mean"), accuracy=("accuracy", "mean")
    )
    error = (table["images"] * (table["accuracy"] - table["confidence"]).abs()).sum() / len(labels)
    return table.reset_index(drop=True), float(error)


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean of at least two independent runs and its 95 % Student t interval (low, high)."""
    mean, half = (
        float(np.mean(values)),
        float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5),
    )
    return mean, mean - half, mean + half
