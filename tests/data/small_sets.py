"""Small data sets with the catalog's own layout, made of random pixels, with archives and digests of their own."""

import dataclasses
import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from cnnlab.catalog import CATALOG, DataSet, File

UNREACHABLE = "http://127.0.0.1:9"  # the discard port: nothing listens there


def idx_bytes(values: np.ndarray) -> bytes:
    """Encode uint8 values as IDX, written from the format's description."""
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def cifar_bytes(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Encode images (n, h, w, 3) as CIFAR records, plane by plane."""
    planes = (image[:, :, channel].tobytes() for image in images for channel in range(3))
    return b"".join(bytes([label]) + next(planes) + next(planes) + next(planes) for label in labels)


def png_bytes(images: np.ndarray, side: int | None = None) -> bytes:
    """Encode images (n, h, w, 3) as a sheet with one row per image, or a single one as it is, with this many rows."""
    stream = io.BytesIO()
    Image.fromarray(images.reshape(side or len(images), -1, 3)).save(stream, "PNG")
    return stream.getvalue()


def tar_gz(path: Path, members: Mapping[str, bytes]) -> None:
    """Write a tar.gz of regular files."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            information = tarfile.TarInfo(name)
            information.size = len(content)
            archive.addfile(information, io.BytesIO(content))


@dataclasses.dataclass(frozen=True)
class Small:
    """A small data set, its canonical files' content and its package's content."""

    data_set: DataSet
    content: Mapping[str, bytes]
    package: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    def plain(self, folder: Path) -> Path:
        """Write the canonical files in the layout of a mirror; returns the mirror."""
        (folder / self.data_set.name).mkdir(parents=True)
        for name, content in self.content.items():
            (folder / self.data_set.name / name).write_bytes(content)
        return folder

    def archives(self, folder: Path) -> Path:
        """Write the official archives; returns their folder."""
        folder.mkdir(parents=True)
        for download in self.data_set.downloads:
            if download.basename.endswith(".tar.gz"):
                members = {member: self.official(name) for name, member in download.members.items()}
                tar_gz(folder / download.basename, {"cifar-10-batches-bin/readme.html": b"hello"} | members)
            else:
                (name,) = download.members
                (folder / download.basename).write_bytes(gzip.compress(self.content[name]))
        return folder

    def official(self, name: str) -> bytes:
        """A file as in the official archive; CIFAR-100's has another order, and superclass labels."""
        content, data_set = self.content[name], self.data_set
        if not data_set.superclasses:
            return content
        group = {own: i for i, members in enumerate(data_set.superclasses.values()) for own in members}
        records = [content[i : i + 3073] for i in range(0, len(content), 3073)]
        return b"".join(bytes([group[data_set.classes[record[0]]]]) + record for record in reversed(records))

    def zipped(self, folder: Path) -> Path:
        """Write a zip of PNG images in class folders; returns the zip's folder."""
        folder.mkdir(parents=True)
        assert self.data_set.image_zip
        with zipfile.ZipFile(folder / self.data_set.image_zip.basename, "w") as archive:
            archive.writestr("cifar-100/readme.txt", "hello")
            for file, top in self.data_set.image_zip.folders.items():
                records = np.frombuffer(self.content[file], np.uint8).reshape(-1, 3073)
                for i, record in enumerate(records[::-1]):
                    image = record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
                    name = f"{top}/{self.data_set.classes[record[0]]}/{i}.png"
                    archive.writestr(name, png_bytes(image[np.newaxis], side=32))
        return folder

    def at(self, url: str) -> DataSet:
        """Return the data set with its official archives below `url`."""
        downloads = tuple(dataclasses.replace(old, url=f"{url}/{old.basename}") for old in self.data_set.downloads)
        return dataclasses.replace(self.data_set, downloads=downloads)

    def arrived(self, folder: Path) -> bool:
        """Whether `folder` contains the canonical files and nothing else."""
        return {path.name: path.read_bytes() for path in folder.iterdir()} == dict(self.content)


def small(name: str, content: Mapping[str, bytes], counts: tuple[int, int], package: Mapping[str, bytes]) -> Small:
    published = CATALOG[name]
    files = [File(file, len(data), hashlib.sha256(data).hexdigest()) for file, data in content.items()]
    split = len(published.train)
    data_set = dataclasses.replace(
        published,
        train=tuple(files[:split]),
        test=tuple(files[split:]),
        counts={"train": counts[0], "test": counts[1]},
    )
    return Small(Small(data_set, content).at(UNREACHABLE), content, package)
