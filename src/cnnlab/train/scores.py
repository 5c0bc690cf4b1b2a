"""Loss and accuracy of logits, without TensorFlow."""

import numpy as np
from scipy.special import log_softmax


def score(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean cross-entropy (nats) and accuracy (0 to 1) of (n, classes) logits against (n,) labels.

    With more than five classes also top-5 accuracy, as for ImageNet; ties go to the lower class index, as in argmax.
    """
    log_probability = log_softmax(logits.astype(np.float64), axis=1)
    largest = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    top5 = {"top5_accuracy": float((largest == labels[:, None]).any(axis=1).mean())}
    return {
        "loss": float(-log_probability[np.arange(len(labels)), labels].mean()),
        "accuracy": float((largest[:, 0] == labels).mean()),
        **(top5 if logits.shape[1] > 5 else {}),
    }
