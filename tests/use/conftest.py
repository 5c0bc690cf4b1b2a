"""A working folder with an MLflow store that has a champion."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from use.registered import finish


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder; its store has a champion of `pets`."""
    folder = tmp_path_factory.mktemp("checkout")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it when it logs a model: forgotten with this fixture
        patch.delenv("MLFLOW_TRACKING_URI")
        patch.chdir(folder)
        finish("first", 0.5)
        yield folder
        mlflow.set_tracking_uri(None)
