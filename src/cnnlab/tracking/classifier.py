"""Image classifier for images of any size: the program that MLflow stores with the weights.

It does not import cnnlab, so that a registered model needs only its few requirements installed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

BATCH = 64
MAX_IMAGES = 1000  # per request: other requests wait for it


def fitted(pixels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Crop an image at the centre and scale it to `shape` (height, width, channels), as uint8.

    `pixels` is uint8 (height, width, channels) with 1 (greyscale), 3 (RGB) or 4 channels (RGBA); transparency becomes
    white. Raises ValueError for any other array.
    """
    channels = pixels.shape[-1] if pixels.ndim == 3 else 0
    if channels not in (1, 3, 4) or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(
            "Invalid image. Expected: uint8 of shape (height, width, channels), 1, 3 or 4 channels. "
            f"Received: {pixels.dtype} of shape {pixels.shape}."
        )
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    if channels == 4:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    height, width, depth = shape
    image = image.convert("L" if depth == 1 else "RGB")
    scaled = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(scaled, np.uint8).reshape(height, width, depth)


class Classifier:
    """`network` maps uint8 images of its input size to logits (`nets.inference`); `classes` are the class names."""

    def __init__(self, network: Any = None, classes: Sequence[str] = ()) -> None:
        self.network = network
        self.classes = [*classes]

    def probabilities(self, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Class probabilities, float32 (n, classes), of images of any size, each as for `fitted`."""
        import keras  # noqa: PLC0415

        shape = self.network.input_shape[1:]
        batches = [np.zeros((0, len(self.classes)), np.float32)]
        for start in range(0, len(images), BATCH):
            batch = np.stack([fitted(image, shape) for image in images[start : start + BATCH]])
            batches.append(keras.ops.convert_to_numpy(keras.ops.softmax(self.network(batch))))
        return np.concatenate(batches)


if __name__ != "cnnlab.tracking.classifier":  # run by MLflow, which cnnlab need not import to use a classifier
    import pandas as pd
    from mlflow.exceptions import MlflowException
    from mlflow.models import set_model
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
    from mlflow.pyfunc import PythonModel

    class Program(Classifier, PythonModel):
        """The classifier as MLflow loads and serves it."""

        def load_context(self, context: Any) -> None:
            """Load network and class names from the model's artifacts."""
            import keras  # noqa: PLC0415  # the file is also imported where no network is used

            self.network = keras.saving.load_model(context.artifacts["network"], compile=False)
            self.classes = json.loads(Path(context.artifacts["classes"]).read_text(encoding="utf-8"))

        def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
            """One row per image: the most probable class, its probability, and the probability of every class."""
            try:
                if len(model_input) > MAX_IMAGES:
                    raise ValueError(f"Too many images. Expected at most {MAX_IMAGES}. Received: {len(model_input)}.")
                rows = self.probabilities(model_input)
            except ValueError as error:
                raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
            return pd.DataFrame(
                {
                    "class": [self.classes[row.argmax()] for row in rows],
                    "probability": rows.max(axis=1).astype(float),
                    "probabilities": [dict(zip(self.classes, row.tolist(), strict=True)) for row in rows],
                }
            )

    set_model(Program())
