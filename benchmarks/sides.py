"""The TensorFlow sides of the comparisons. bench.py runs each as a separate process.

Usage: python benchmarks/sides.py NAME BATCH IMAGES, or: python benchmarks/sides.py probe
"""

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable

import keras
import networks
import numpy as np
import protocol
import tensorflow as tf
from keras import layers

from cnnlab import errors, files, params
from cnnlab.data import augment as augmentation
from cnnlab.data.batches import epoch_blocks, place
from cnnlab.data.store import open_processed, read_card
from cnnlab.nets.anatomy import training_flop
from cnnlab.nets.registry import build
from cnnlab.train import optimizers as recipe
from cnnlab.train.history import History
from cnnlab.train.loop import Loop, fit
from cnnlab.train.scores import score
from cnnlab.train.strategy import strategy

Round = Callable[[], protocol.Measurement]
Augment = Callable[[tf.Tensor], tf.Tensor]

FOLDER = files.PROCESSED / "cifar10"
FOLDER_SET = "imagenette"
EPOCH = 45_000  # training images of the lesson's variant
EVERYTHING = params.Augment(
    shift=0.1, flip="random", rotation=15.0, brightness=0.1, contrast=0.1, cutout=0.25, mixup=0.2, cutmix=1.0
)
OUR_EPOCHS = 2  # of variant improved: 83 % test accuracy; one epoch gives 78 %
SCRIPT_EPOCHS = 50  # of the lesson's script: 79 %, according to its source, Keras's example cifar10_cnn
PEAK_SIZES = {"CPU": (1024, 2048, 4096), "GPU": (4096, 8192)}
PEAK_SECONDS = 0.5  # per size, and at least three products


def lesson() -> params.Variant:
    """Variant `lesson` of params.yaml: the homework network with the lesson's optimizer and augmentation."""
    return params.variant(params.load(), "lesson")


def on_gpu() -> bool:
    """Whether TensorFlow finds a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


class Training:
    """cnnlab's training, one epoch per round: variant `lesson` with the given changes."""

    def __init__(
        self,
        batch: int,
        images: int,
        *,
        network: Callable[[], keras.Model] | None = None,
        devices: params.Strategy = params.Strategy(),  # noqa: B008  # frozen
        **changes: params.Section,
    ) -> None:
        knobs = lesson().model_copy(update=changes)
        chosen = strategy(devices)
        with chosen.scope():
            model = network() if network else build(knobs.network, read_card(knobs.data))
            recipe.prepare(model, knobs, steps=EPOCH // batch)
            data = place(*protocol.first_images(FOLDER, images), chosen)
            self.loop = Loop(model, data, chosen, batch_size=batch, seed=0, augment=knobs.augment)
        self.index = np.arange(images)
        self.validation = self.index[: chosen.num_replicas_in_sync]  # minimal, as Keras's `fit` has none here
        self._history = History()
        self._flop = training_flop(model)

    def round(self) -> protocol.Measurement:
        """Train one more epoch."""
        epochs = len(self._history.epochs) + 1
        measured = timed(lambda: fit(self.loop, self.index, self.validation, epochs, history=self._history), self.index)
        return {**measured, "GFLOP/s": float(measured["images/s"]) * self._flop / 1e9}


def input_only(batch: int, images: int, augment: params.Augment) -> Round:
    """Our loop with a network that only averages the pixels: what remains is input and augmentation.

    Uses eight times the images, because a round would take milliseconds.
    """
    sgd = params.Optimizer(name="sgd", learning_rate=1e-6)
    return Training(
        batch, min(8 * images, EPOCH), network=networks.pixel_mean_network, optimizer=sgd, augment=augment
    ).round


def speedrun(batch: int, images: int) -> Round:
    """airbench's layers, optimizer and augmentation, on a quarter of the images, as each costs six times more."""
    sgd = params.Optimizer(name="sgd", learning_rate=0.01, momentum=0.85)
    moves = params.Augment(shift=2 / 32, whole_pixels=True, fill="reflect", flip="alternating")
    count = max(batch, images // 4)
    return Training(batch, count, network=networks.speedrun_network, optimizer=sgd, augment=moves).round


def bfloat16(batch: int, images: int) -> Round:
    """Training in mixed precision, for GPUs."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    return Training(batch, images).round


def mirrored(batch: int, images: int) -> Round:
    """MirroredStrategy with a single device."""
    return Training(batch, images, devices=params.Strategy(devices=["GPU:0"] if on_gpu() else "all")).round


def improved(batch: int, images: int) -> Round:
    """Complete trainings of variant `improved`, one seed per round, with their test accuracy.

    Cut to the smallest number of epochs that exceeds the accuracy of the lesson's script.
    """
    seeds = itertools.count()
    parameters = params.load()

    def train() -> protocol.Measurement:
        run = params.runs(parameters, "improved")[0].model_copy(update={"seed": next(seeds), "epochs": OUR_EPOCHS})
        data, chosen = open_processed(run.data), strategy(params.Strategy())
        train, validation = data.split(run.validation, run.train_images)
        keras.utils.set_random_seed(run.seed)
        with chosen.scope():
            model = build(run.network, data.card)
            recipe.prepare(model, run, steps=-(-len(train) // run.batch_size) * run.epochs)
            resident = place(data.train_images, data.train_labels, chosen)
            loop = Loop(model, resident, chosen, batch_size=run.batch_size, seed=run.seed, augment=run.augment)
        elapsed = seconds(lambda: fit(loop, train, validation, run.epochs))
        test = place(data.test_images, data.test_labels, chosen)
        logits = loop.logits(test, np.arange(len(data.test_labels)))
        return {"seconds": elapsed, "test accuracy (%)": 100 * score(logits, np.asarray(data.test_labels))["accuracy"]}

    return train


def image_folder(batch: int) -> Round:
    """Stream the JPEG files of Imagenette: one epoch, decoded, cropped at random, scaled to 96×96 and batched."""
    data, chosen = open_processed(FOLDER_SET), strategy(params.Strategy())
    knobs = params.variant(params.load(), "improved_imagenette")
    feeding = place(data.train_images, data.train_labels, chosen, smallest_crop=knobs.augment.crop)
    index = np.arange(len(data.train_labels))
    epochs = itertools.count()

    def read() -> None:
        for _, fed in feeding.feed(epoch_blocks(index, batch, 1, seed=0, epoch=next(epochs)), chosen):
            del fed

    return lambda: timed(read, index)


def image_folder_in_memory(batch: int) -> Round:
    """Train variant `improved_imagenette` on the same images, decoded in advance."""
    data, chosen = open_processed(FOLDER_SET), strategy(params.Strategy())
    knobs = params.variant(params.load(), "improved_imagenette")
    index, labels = np.arange(len(data.train_labels)), np.array(data.train_labels)
    history = History()
    with chosen.scope():
        model = build(knobs.network, data.card)
        recipe.prepare(model, knobs, steps=10 * len(index) // batch)
        decoded = place(np.asarray(data.train_images[index]), labels, chosen)
        loop = Loop(model, decoded, chosen, batch_size=batch, seed=0, augment=params.Augment(flip="alternating"))
    return lambda: timed(lambda: fit(loop, index, index[:1], len(history.epochs) + 1, history=history), index)


class Script:
    """The handout's script (cell In [6]): Keras `fit` on an `ImageDataGenerator`."""

    def __init__(self, batch: int, images: int) -> None:
        inputs, labels = protocol.first_images(FOLDER, images)
        generator = tf.keras.preprocessing.image.ImageDataGenerator(
            width_shift_range=0.1, height_shift_range=0.1, fill_mode="nearest", horizontal_flip=True
        )
        targets = keras.utils.to_categorical(labels, 10)
        self._flow = generator.flow(inputs.astype("float32") / 255, targets, batch_size=batch)
        self._labels = labels

    def training(self) -> Round:
        """One epoch per round."""
        model = networks.handout_network()
        model.compile(loss="categorical_crossentropy", optimizer=handout_optimizer(), metrics=["accuracy"])
        return lambda: timed(lambda: model.fit(self._flow, epochs=1, verbose=0), self._labels)

    def level(self) -> Round:
        """One epoch per round, extrapolated to the seconds of all `SCRIPT_EPOCHS`."""
        epoch = self.training()
        return lambda: {"seconds": SCRIPT_EPOCHS * EPOCH / float(epoch()["images/s"])}

    def generator(self) -> protocol.Measurement:
        """One epoch of the generator, without training."""
        return timed(lambda: [next(self._flow) for _ in range(len(self._flow))], self._labels)


class TfData:
    """Keras `fit` on tf.data with the lesson's augmentation, as an experienced Keras user would write it.

    The first round tries 1 and 32 steps per execution and selects the faster. Keras disables XLA on CPUs.
    """

    def __init__(self, batch: int, images: int, augment: Augment) -> None:
        self._batch = batch
        self._augment = augment
        self._images, self._labels = protocol.first_images(FOLDER, images)
        self._best: Round | None = None

    def round(self) -> protocol.Measurement:
        """Train for one epoch with the faster setting."""
        if not self._best:
            candidates = [self._training(steps) for steps in (1, 32)]
            for candidate in candidates:
                candidate()  # compiles
            self._best = max(candidates, key=lambda candidate: float(candidate()["images/s"]))
        return self._best()

    def _training(self, steps: int) -> Round:
        data = (
            tf.data.Dataset.from_tensor_slices((self._images, self._labels))
            .shuffle(len(self._labels))
            .batch(self._batch)
            .map(lambda x, y: (self._augment(tf.cast(x, tf.float32) / 255), y), num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )
        model = networks.handout_network()
        loss = "sparse_categorical_crossentropy"
        model.compile(handout_optimizer(), loss, metrics=["accuracy"], steps_per_execution=steps)
        note = f"steps_per_execution {steps}"
        return lambda: {**timed(lambda: model.fit(data, epochs=1, verbose=0), self._labels), "note": note}


def keras_layers() -> Augment:
    """The lesson's augmentation with Keras's layers."""
    shift = lesson().augment.shift
    move, flip = layers.RandomTranslation(shift, shift, fill_mode="nearest"), layers.RandomFlip("horizontal")
    return lambda images: flip(move(images, training=True), training=True)


def our_function() -> Augment:
    """The lesson's augmentation with cnnlab's function and TensorFlow's random numbers."""
    knobs = lesson().augment
    return lambda images: augmentation.augment(
        images, tf.random.uniform((tf.shape(images)[0], augmentation.DRAWS)), knobs
    )


def handout_optimizer() -> keras.optimizers.Optimizer:
    """`RMSprop(lr=0.0001, decay=1e-6)`, written for Keras 3."""
    rate = keras.optimizers.schedules.InverseTimeDecay(0.0001, decay_steps=1, decay_rate=1e-6)
    return keras.optimizers.RMSprop(rate)


class Peak:
    """The fastest square matrix product on the threads and devices of cnnlab's training, over several sizes.

    On GPUs float32 means TF32, as in training. All GPUs are assumed to be as fast as the first.
    """

    def __init__(self, dtype: str) -> None:
        self._devices = strategy(params.Strategy()).num_replicas_in_sync
        self._dtype = tf.dtypes.as_dtype(dtype)
        self._product = tf.function(lambda a, b: tf.matmul(a, b)[0, 0])

    def round(self) -> protocol.Measurement:
        """Median speed of the fastest size."""
        return {"GFLOP/s": self._devices * max(map(self._speed, PEAK_SIZES["GPU" if on_gpu() else "CPU"]))}

    def _speed(self, size: int) -> float:
        a, b = (tf.cast(tf.random.normal((size, size)), self._dtype) for _ in range(2))
        repeats: list[float] = []
        while len(repeats) < 3 or sum(repeats) < PEAK_SECONDS:
            repeats.append(seconds(lambda: self._product(a, b).numpy()))
        return float(2 * size**3 / 1e9 / statistics.median(repeats))


def timed(work: Callable[[], object], images: np.ndarray) -> protocol.Measurement:
    """Images/s of `work`, which processes all images once."""
    return {"images/s": len(images) / seconds(work)}


def seconds(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def probe() -> dict[str, list[str] | str]:
    """Versions, and the names of the GPUs that TensorFlow finds."""
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return {
        "TensorFlow": tf.__version__,
        "Keras": keras.__version__,
        "gpus": [gpu.get("device_name", "unknown") for gpu in gpus],
    }


SIDES: dict[str, Callable[[int, int], Round]] = {
    "cnnlab": lambda batch, images: Training(batch, images).round,
    "cnnlab-bfloat16": bfloat16,
    "cnnlab-everything": lambda batch, images: Training(batch, images, augment=EVERYTHING).round,
    "input": lambda batch, images: input_only(batch, images, lesson().augment),
    "input-everything": lambda batch, images: input_only(batch, images, EVERYTHING),
    "image-folder": lambda batch, _: image_folder(batch),
    "image-folder-in-memory": lambda batch, _: image_folder_in_memory(batch),
    "generator": lambda batch, images: Script(batch, images).generator,
    "script": lambda batch, images: Script(batch, images).training(),
    "script-level": lambda batch, images: Script(batch, images).level(),
    "improved": improved,
    "tf.data": lambda batch, images: TfData(batch, images, keras_layers()).round,
    "tf.data-ours": lambda batch, images: TfData(batch, images, our_function()).round,
    "speedrun": speedrun,
    "peak": lambda batch, images: Peak("float32").round,
    "peak-bfloat16": lambda batch, images: Peak("bfloat16").round,
    "plain": lambda batch, images: Training(batch, images, devices=params.Strategy(devices="one")).round,
    "mirrored": mirrored,
    "replicas": lambda batch, images: Training(batch, images, devices=params.Strategy(replicas=2)).round,
}


def main() -> None:
    """Serve the side given on the command line, or print `probe`'s result as JSON."""
    if sys.argv[1:] == ["probe"]:
        print(json.dumps(probe()))
        return
    name, batch, images = sys.argv[1:]
    protocol.serve(lambda: SIDES[name](int(batch), int(images)))


if __name__ == "__main__":
    errors.run(main)
