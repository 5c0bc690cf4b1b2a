"""Which trained network is used: the champion that MLflow's registry names, or a variant's of models/."""

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from cnnlab import params, registry, track
from cnnlab.classifier import Classifier
from cnnlab.data.store import open_processed
from cnnlab.errors import UserError
from cnnlab.files import MODELS
from cnnlab.nets.whole import whole
from cnnlab.params.recipe import Views


@dataclass(frozen=True)
class Network:
    """A trained network with its preprocessing, the data set it was trained for, and what it is called there."""

    classifier: Classifier
    data: str
    name: str


def asked(parameters: params.Params, variant: str | None, data: str) -> Network:
    """The trained network of a variant's first seed, or where none is named the champion of `data`.

    Raises UserError where there is none yet.
    """
    if variant is None:
        return champion(data)
    data = params.variant(parameters, variant).data
    folder = MODELS / data / variant
    try:
        views = Views(**json.loads((folder / "run.json").read_text())["views"])
        model = keras.saving.load_model(folder / "model.keras", compile=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"No trained network in {folder}: {error}. Expected model.keras and run.json. "
            f"Run: make train VARIANT={variant} SEEDS=1"
        ) from error
    return Network(Classifier(whole(model, views), open_processed(data).card["classes"]), data, variant)


def champion(data: str) -> Network:
    """The champion of a data set, as MLflow keeps it. Raises UserError where there is none."""
    version, folder = champion_files(data)
    files = folder / "artifacts"
    # Not MLflow's own loader: it would run the program that lies there.
    model = keras.saving.load_model(files / "network.keras", compile=False)
    classifier = Classifier(model, json.loads((files / "classes.json").read_text(encoding="utf-8")))
    return Network(classifier, data, version.tags.get("variant", f"version-{version.version}"))


def champion_files(data: str) -> tuple[ModelVersion, Path]:
    """What the registry says of a data set's champion, and the folder of its files.

    Raises UserError where there is none, and where MLflow does not give it.
    """
    store = track.client()
    mlflow.set_tracking_uri(track.tracking_uri())  # to which a server's addresses of artifacts are relative
    try:
        version = registry.champion(store, data)
        folder = mlflow.artifacts.download_artifacts(version.source) if version else ""
    except (MlflowException, OSError) as error:
        raise UserError(
            f"MLflow does not give the champion of {data}. Expected its files in the store. "
            f"Received: {track.masked(str(error).partition(chr(10))[0])}"
        ) from error
    if version is None:
        raise UserError(
            f"No champion of {data}. Expected alias {registry.CHAMPION!r} of model {registry.name_of(data)!r} in "
            "MLflow's registry, which the first finished training of that data set makes. Run: make repro"
        )
    return version, Path(folder)
