"""Metrics against scikit-learn, and intervals against their formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, recall_score, top_k_accuracy_score

from cnnlab.evaluation.metrics import calibration, classification, coarse_accuracy, mean_interval, temperature
from cnnlab.train.scores import score

logits_and_labels = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        arrays(np.float32, (n, 7), elements=st.floats(-30, 30, width=32), unique=True),
        arrays(np.int32, n, elements=st.integers(0, 6)),
    )
)


@given(logits_and_labels)
def test_the_score_equals_scikit_learns(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = drawn
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    scored = score(logits, labels)
    theirs = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    np.testing.assert_allclose(scored["loss"], theirs, rtol=1e-9, atol=1e-12)
    if (probabilities > 1e-12).all():  # scikit-learn clips probabilities
        np.testing.assert_allclose(scored["loss"], log_loss(labels, probabilities, labels=range(7)), rtol=1e-6)
    assert scored["accuracy"] == accuracy_score(labels, logits.argmax(axis=1))
    top5 = top_k_accuracy_score(labels, logits, k=5, labels=range(7))
    np.testing.assert_allclose(scored["top5_accuracy"], top5)


@given(logits_and_labels)
def test_the_classification_equals_scikit_learns(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = drawn
    predicted = logits.argmax(axis=1)
    report = classification(logits, labels, 7)
    assert (report["confusion"] == confusion_matrix(labels, predicted, labels=range(7))).all()
    recall = recall_score(labels, predicted, labels=range(7), average=None, zero_division=0)
    np.testing.assert_allclose(report["recall"], recall)
    share, n, z = (predicted == labels).mean(), len(labels), stats.norm.ppf(0.975)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    np.testing.assert_allclose(
        [report["accuracy_low"], report["accuracy_high"]], [centre - half, centre + half], atol=1e-9
    )


def test_a_confusion_by_hand() -> None:
    predicted = np.array([0, 0, 1, 1, 1, 3])
    report = classification(np.eye(4, dtype=np.float32)[predicted], np.array([0, 1, 1, 1, 3, 3]), 4)
    assert report["confusion"].tolist() == [[1, 0, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]]
    assert report["recall"].tolist() == [1.0, 2 / 3, 0.0, 0.5]


@pytest.mark.parametrize(
    ("logit", "label", "loss"), [(1e4, 0, 0.0), (-1e4, 0, 1e4), (1e4, 1, 1e4), (0.0, 1, np.log(2))]
)
def test_extreme_logits_lose_nothing(logit: float, label: int, loss: float) -> None:
    scored = score(np.array([[logit, 0]], np.float32), np.array([label]))
    np.testing.assert_allclose(scored["loss"], loss, rtol=1e-12, atol=1e-300)


def test_sums_are_taken_in_double_precision() -> None:
    logits = np.full((100_000, 2), [0, 1e-4], np.float32)
    expected = np.log1p(np.exp(np.float64(np.float32(1e-4))))
    np.testing.assert_allclose(score(logits, np.zeros(100_000, int))["loss"], expected, rtol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_the_interval_of_a_mean_equals_scipys(values: list[float]) -> None:
    mean, low, high = mean_interval(values)
    np.testing.assert_allclose(mean, np.mean(values))
    if np.std(values) > 1e-6:
        expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        np.testing.assert_allclose([low, high], expected, atol=1e-9)
    assert low <= mean <= high


def test_the_interval_of_two_runs_by_hand() -> None:
    """t(0.975; 1) = 12.7062, standard error = 0.02 / 2 = 0.01."""
    np.testing.assert_allclose(mean_interval([0.40, 0.42]), [0.41, 0.41 - 0.127062, 0.41 + 0.127062], atol=1e-6)


def logits_of(confidences: list[float]) -> np.ndarray:
    """Two-class logits whose first class has these probabilities."""
    p = np.array(confidences)
    return np.log(np.stack([p, 1 - p], axis=1))


def test_the_calibration_error_by_hand() -> None:
    # Two bins: 0.6 and 0.7 below ¾ with one of two right, 0.9 and 0.95 above with both right.
    table, error = calibration(logits_of([0.6, 0.7, 0.9, 0.95]), np.array([0, 1, 0, 0]), bins=4)
    assert table["images"].tolist() == [2, 2]
    assert table["confidence"].tolist() == pytest.approx([0.65, 0.925])
    assert table["accuracy"].tolist() == [0.5, 1.0]
    assert error == pytest.approx((2 * 0.15 + 2 * 0.075) / 4)


def test_full_confidence_without_errors_has_no_calibration_error() -> None:
    table, error = calibration(np.array([[0.0, 100.0], [100.0, 0.0]]), np.array([1, 0]))
    assert error == pytest.approx(0, abs=1e-12)
    assert table["images"].tolist() == [2]


@given(logits_and_labels)
def test_calibration_counts_every_image_once_and_keeps_the_accuracy(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = drawn
    table, error = calibration(logits, labels)
    assert table["images"].sum() == len(labels)
    mean = (table["images"] * table["accuracy"]).sum() / len(labels)
    assert mean == pytest.approx(score(logits, labels)["accuracy"])
    assert 0 <= error <= 1
    gap = abs(mean - (table["images"] * table["confidence"]).sum() / len(labels))
    assert error >= gap - 1e-12  # bins that err to both sides cannot cancel


def test_ties_in_the_top_five_go_to_the_first_classes() -> None:
    """So a network with constant outputs is no better than chance on a balanced set."""
    scored = score(np.zeros((20, 10), np.float32), np.arange(20) % 10)
    assert (scored["accuracy"], scored["top5_accuracy"]) == (0.1, 0.5)
    assert "top5_accuracy" not in score(np.zeros((20, 5), np.float32), np.arange(20) % 5)


def test_any_class_of_the_superclass_counts_as_correct() -> None:
    """Classes 0 and 2 are one superclass, 1 and 3 the other."""
    logits = np.eye(4, dtype=np.float32)[[0, 2, 1, 3, 3]]
    assert coarse_accuracy(logits, np.array([0, 0, 0, 1, 2]), np.array([0, 1, 0, 1])) == 3 / 5


@pytest.mark.parametrize("true", [0.25, 1.0, 3.0])
def test_the_temperature_of_two_classes_is_that_of_a_logistic_regression(true: float) -> None:
    """With two classes, softmax of z / T is the logistic function of the difference of the logits, divided by T."""
    random = np.random.default_rng(0)
    logits = 3 * random.normal(size=(5000, 2))
    difference = logits[:, 1] - logits[:, 0]
    labels = (random.random(5000) < 1 / (1 + np.exp(-difference / true))).astype(np.int32)
    regression = LogisticRegression(C=np.inf, fit_intercept=False).fit(difference[:, None], labels)
    found = temperature(logits.astype(np.float32), labels)
    assert found == pytest.approx(1 / regression.coef_[0, 0], rel=1e-3)
    assert found == pytest.approx(true, rel=0.1)
