"""A trained network that takes pictures of any size and tells classes: the program MLflow keeps with the weights.

It imports nothing of the house, so that a registered model works where only its few requirements are installed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel
from PIL import Image, ImageOps

BATCH = 64
MOST = 1000  # pictures of a request, which others wait for


def fitted(picture: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The middle of a picture, scaled to `shape` (height, width, channels), as uint8.

    `picture` is uint8 of any height and width with 1 (grey), 3 (RGB) or 4 channels (RGB and opacity); what is
    transparent becomes white. Raises ValueError for any other.
    """
    channels = picture.shape[-1] if picture.ndim == 3 else 0
    if channels not in (1, 3, 4) or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(
            "Invalid picture. Expected: uint8 of shape (height, width, channels), 1, 3 or 4 channels. "
            f"Received: {picture.dtype} of shape {picture.shape}."
        )
    image = Image.fromarray(picture[..., 0] if channels == 1 else picture)
    if channels == 4:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    height, width, wanted = shape
    image = image.convert("L" if wanted == 1 else "RGB")
    scaled = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(scaled, np.uint8).reshape(height, width, wanted)


class Classifier(PythonModel):
    """`network` takes uint8 of its size and gives logits (`nets.whole`); `classes` are their names, in order."""

    def __init__(self, network: Any = None, classes: Sequence[str] = ()) -> None:
        self.network = network
        self.classes = [*classes]

    def load_context(self, context: Any) -> None:
        """Read the network and the names of its classes from the files MLflow kept."""
        import keras  # noqa: PLC0415  # the file is also imported where no network is used

        self.network = keras.saving.load_model(context.artifacts["network"], compile=False)
        self.classes = json.loads(Path(context.artifacts["classes"]).read_text(encoding="utf-8"))

    def probabilities(self, pictures: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Of each picture and class, float32 (n, classes); the pictures as `fitted` takes them, each of any size."""
        import keras  # noqa: PLC0415

        shape = self.network.input_shape[1:]
        told = [np.zeros((0, len(self.classes)), np.float32)]
        for start in range(0, len(pictures), BATCH):
            batch = np.stack([fitted(picture, shape) for picture in pictures[start : start + BATCH]])
            told.append(keras.ops.convert_to_numpy(keras.ops.softmax(self.network(batch))))
        return np.concatenate(told)

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row a picture: its class, how probable it is, and the probability of every class."""
        try:
            if len(model_input) > MOST:
                raise ValueError(f"Too many pictures. Expected at most {MOST}. Received: {len(model_input)}.")
            told = self.probabilities(model_input)
        except ValueError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return pd.DataFrame(
            {
                "class": [self.classes[row.argmax()] for row in told],
                "probability": told.max(axis=1).astype(float),
                "probabilities": [dict(zip(self.classes, row.tolist(), strict=True)) for row in told],
            }
        )


set_model(Classifier())
