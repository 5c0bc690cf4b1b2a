"""Export a trained network for other programs: TensorFlow SavedModel, and LiteRT for mobile and embedded devices."""

import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cnnlab.errors import UserError
from cnnlab.files import atomic_folder, write_text
from cnnlab.use.network import TrainedNetwork

EXPORTS = Path("exports")
IMAGES = 64  # of noise, on which the logits of the files are compared with the network's
TOLERANCE = 1e-3  # of a logit: sums in another order


def export(network: TrainedNetwork) -> Path:
    """Write saved_model/, network.tflite and classes.txt to `exports/<set>/<name>/`; returns that folder.

    Both models map uint8 images (n, height, width, channels) of the network's input size to float32 logits
    (n, classes), in the order of classes.txt. Each file is loaded again and compared with the network. Raises
    UserError, and leaves an earlier export in place, if the logits differ.
    """
    folder = EXPORTS / network.data / network.name
    with atomic_folder(folder) as partial:
        model = network.classifier.network
        shape = (IMAGES, *model.input_shape[1:])
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        expected = keras.ops.convert_to_numpy(model(images))
        for name, kind, logits in (
            ("saved_model", "tf_saved_model", _saved_model_logits),
            ("network.tflite", "litert", _litert_logits),
        ):
            model.export(partial / name, format=kind, verbose=False)
            _compare(name, expected, logits(partial / name, images))
        write_text(partial / "classes.txt", "".join(f"{name}\n" for name in network.classifier.classes))
    return folder


def _compare(name: str, expected: np.ndarray, received: np.ndarray) -> None:
    difference = np.abs(received - expected).max()
    if not difference <= TOLERANCE:
        raise UserError(
            f"The exported {name} disagrees with the network. Expected: logits within {TOLERANCE} on {IMAGES} images. "
            f"Received: a difference of {difference:.3g}. Nothing was exported."
        )
    print(f"{name}: logits agree on {IMAGES} images, maximum difference {difference:.1g}", flush=True)


def _saved_model_logits(path: Path, images: np.ndarray) -> np.ndarray:
    loaded = tf.saved_model.load(str(path))  # a name, because its function does not keep its variables alive
    return np.asarray(loaded.serve(images))


def _litert_logits(path: Path, images: np.ndarray) -> np.ndarray:
    plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # the default one logs to stderr
    with warnings.catch_warnings():
        # TensorFlow recommends the package ai-edge-litert instead, which has no wheels for some of our platforms.
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        interpreter = tf.lite.Interpreter(str(path), experimental_op_resolver_type=plain)
    run = interpreter.get_signature_runner()
    (logits,) = run(**dict.fromkeys(run.get_input_details(), images)).values()
    return np.asarray(logits)
