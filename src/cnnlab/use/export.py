"""A trained network as files that other programs read: TensorFlow's SavedModel, and LiteRT for phones and boards."""

import shutil
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cnnlab.errors import UserError
from cnnlab.files import write_text
from cnnlab.use.network import Network

EXPORTS = Path("exports")
PICTURES = 64  # of noise, on which the files' logits are compared with the network's
TOLERANCE = 1e-3  # of a logit: another order of the same sums


def export(network: Network) -> Path:
    """Write saved_model/, network.tflite and classes.txt to `exports/<set>/<name>/`, which is returned.

    Both take uint8 pictures (n, height, width, channels) of the network's own size and give float32 logits
    (n, classes), in the order of classes.txt. Each is read back and must give the same logits as the network; raises
    UserError, and leaves what was there before, where one does not.
    """
    folder = EXPORTS / network.data / network.name
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        model = network.classifier.network
        shape = (PICTURES, *model.input_shape[1:])
        pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        expected = keras.ops.convert_to_numpy(model(pictures))
        for name, kind, told in (
            ("saved_model", "tf_saved_model", _saved_model),
            ("network.tflite", "litert", _litert),
        ):
            model.export(partial / name, format=kind, verbose=False)
            _compare(name, expected, told(partial / name, pictures))
        write_text(partial / "classes.txt", "".join(f"{name}\n" for name in network.classifier.classes))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _compare(name: str, expected: np.ndarray, received: np.ndarray) -> None:
    furthest = np.abs(received - expected).max()
    if not furthest <= TOLERANCE:
        raise UserError(
            f"The exported {name} answers otherwise than the network. Expected logits within {TOLERANCE} of its own on "
            f"{PICTURES} pictures. Received: {furthest:.3g} apart. Nothing was exported."
        )
    print(f"{name}: the same logits on {PICTURES} pictures, at most {furthest:.1g} apart", flush=True)


def _saved_model(path: Path, pictures: np.ndarray) -> np.ndarray:
    loaded = tf.saved_model.load(str(path))
    return np.asarray(loaded.serve(pictures))


def _litert(path: Path, pictures: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        # TensorFlow names a package in its own interpreter's place, which has no wheel for every system we run on.
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        run = tf.lite.Interpreter(str(path)).get_signature_runner()
    return np.asarray(run(pictures=pictures)["output_0"])
