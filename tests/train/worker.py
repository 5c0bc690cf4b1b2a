"""A small training in a process of its own, with as many workers as TF_CONFIG names: `python worker.py FLOATX OUT.npz`.

Two hundred steps of a network with dropout-free convolutions and synchronised batch normalisation, short batches,
mixup, clipping, decay and averaged weights. Writes the loss of each step and every variable.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

sys.path.insert(0, str(Path(__file__).parents[1]))
from train.small import CLASSES, SHAPE, make_loop, pictures, step_losses

from cnnlab.params import Augment, Optimizer, Strategy
from cnnlab.train.strategy import broadcast, is_chief, strategy, sum_over_workers, workers

IMAGES, BATCH, EPOCHS = 77, 8, 20  # nine batches of 8 and one of 5: 200 steps
AUGMENT = Augment(shift=0.1, flip="random", mixup=0.4)
OPTIMIZERS = {
    "float32": Optimizer(name="sgd", learning_rate=0.05, momentum=0.5, weight_decay=1e-3, clip_norm=1.0, ema=0.9),
    "float64": Optimizer(name="rmsprop", learning_rate=1e-3, weight_decay=1e-3, clip_norm=1.0, ema=0.9),
}


def normalised() -> keras.Model:
    """Two convolutions, each followed by batch normalisation over all replicas."""
    model = keras.Sequential([keras.Input(SHAPE)])
    for filters in (6, 8):
        model.add(layers.Conv2D(filters, 3, use_bias=False))
        model.add(layers.BatchNormalization(synchronized=True))
        model.add(layers.Activation("relu"))
    model.add(layers.Flatten())
    model.add(layers.Dense(CLASSES))
    return model


def train(devices: tf.distribute.Strategy, floatx: str) -> dict[str, np.ndarray]:
    """The losses of 200 steps, the logits after them, and every variable by its place."""
    loop = make_loop(
        devices, pictures(IMAGES), OPTIMIZERS[floatx], batch_size=BATCH, network=normalised, augment=AUGMENT
    )
    losses = step_losses(loop, np.arange(IMAGES), EPOCHS)
    variables = (*loop.model.variables, *loop.model.optimizer.variables)
    values = {str(i): variable.numpy() for i, variable in enumerate(variables)}
    return {"losses": losses, "logits": loop.logits(loop.data, np.arange(IMAGES)), **values}


def main(floatx: str, out: Path) -> None:
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    devices = strategy(Strategy())
    print(f"worker of {workers(devices)}, {devices.num_replicas_in_sync} replicas", flush=True)
    secret = bytes(range(256)) * 41 + b"end"
    assert broadcast(devices, secret if is_chief(devices) else b"of another worker") == secret
    assert broadcast(devices, b"") == b""
    np.savez(out, **train(devices, floatx))
    sum_over_workers(devices, np.zeros(1))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
