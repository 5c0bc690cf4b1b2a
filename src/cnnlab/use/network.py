"""Which trained network is used: the champion that MLflow's registry names, or a variant's of models/."""

import json
from dataclasses import dataclass

import keras
import mlflow
import mlflow.pyfunc
from mlflow.entities.model_registry import ModelVersion

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
    version = champion_version(data)
    mlflow.set_tracking_uri(track.tracking_uri())  # of which a store's own addresses of artifacts are told
    classifier = mlflow.pyfunc.load_model(version.source).unwrap_python_model()
    return Network(classifier, data, version.tags.get("variant", f"version {version.version}"))


def champion_version(data: str) -> ModelVersion:
    """What the registry says of a data set's champion. Raises UserError where there is none."""
    version = registry.champion(track.client(), data)
    if version is None:
        raise UserError(
            f"No champion of {data}. Expected alias {registry.CHAMPION!r} of model {registry.name_of(data)!r} in "
            "MLflow's registry, which the first finished training of that data set makes. Run: make repro"
        )
    return version
