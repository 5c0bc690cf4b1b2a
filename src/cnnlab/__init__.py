"""cnnlab: train, compare and explain small convolutional networks honestly."""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

# Read by the libraries when they are first imported, so set before any of them is.
os.environ["KERAS_BACKEND"] = "tensorflow"  # a user's own keras.json may name another backend
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only: start-up notes bury the progress lines
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a laboratory does not report on its users

# Logged while TensorFlow's libraries are loaded, before any setting of theirs is read.
START_UP_NOTES = "^WARNING: All log messages before absl::InitializeLog|^I0000 "


class _QuietLoader(SourceFileLoader):
    """Imports a module with its start-up notes filtered out of stderr; warnings and errors still show."""

    def exec_module(self, module: ModuleType) -> None:
        if sys.stderr is None:  # closed by the caller
            super().exec_module(module)
            return
        sys.stderr.flush()
        stderr, (reading, writing) = os.dup(2), os.pipe()
        # A separate process, because a library that aborts would take its last message with it.
        with subprocess.Popen(["grep", "-vE", START_UP_NOTES], stdin=reading, stdout=stderr):
            os.close(reading)
            os.dup2(writing, 2)
            os.close(writing)
            try:
                super().exec_module(module)
            finally:
                sys.stderr.flush()
                os.dup2(stderr, 2)
                os.close(stderr)


class _QuietTensorFlow(MetaPathFinder):
    """Finds TensorFlow alone, for a `_QuietLoader`."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "tensorflow" else None
        if spec and spec.origin:
            spec.loader = _QuietLoader(name, spec.origin)
        return spec


sys.meta_path.insert(0, _QuietTensorFlow())

import cnnlab.nets.families  # noqa: E402, F401 (registers every network family with params)
