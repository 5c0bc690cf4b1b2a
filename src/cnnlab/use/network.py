"""Load a trained network: that of a variant, or the champion of a data set."""

import json
from dataclasses import dataclass
from pathlib import Path

from cnnlab import params
from cnnlab.data.store import read_card
from cnnlab.errors import UserError, masked
from cnnlab.params.recipe import TTA
from cnnlab.tracking import local
from cnnlab.tracking.classifier import Classifier
from cnnlab.train.outputs import Outputs


@dataclass(frozen=True)
class TrainedNetwork:
    """A classifier with its preprocessing, the data set it was trained on, and its variant or version."""

    classifier: Classifier
    data: str
    name: str


def load(parameters: params.Params, variant: str | None, data: str) -> TrainedNetwork:
    """Load the network of a variant's first seed; if `variant` is None, the champion of `data`.

    Raises UserError if it has not been trained yet.
    """
    if variant is None:
        return champion(data)
    outputs = Outputs(params.variant(parameters, variant).data, variant)
    views, path = TTA(**outputs.record()["tta"]), outputs.model()
    import keras  # noqa: PLC0415  # takes seconds, and an error above should not

    from cnnlab.nets.inference import inference_model  # noqa: PLC0415

    model = inference_model(keras.saving.load_model(path, compile=False), views)
    return TrainedNetwork(Classifier(model, read_card(outputs.data)["classes"]), outputs.data, variant)


def champion(data: str) -> TrainedNetwork:
    """Load the champion of a data set from MLflow's registry. Raises UserError if there is none."""
    version = champion_version(data)
    files = version.folder / "artifacts"
    classes = json.loads((files / "classes.json").read_text(encoding="utf-8"))
    import keras  # noqa: PLC0415

    # Without MLflow's loader, which would run the program stored in the folder.
    model = keras.saving.load_model(files / "network.keras", compile=False)
    return TrainedNetwork(Classifier(model, classes), data, version.tags.get("variant", f"version-{version.version}"))


def champion_version(data: str) -> local.Version:
    """The registered version that is the champion of a data set, with its files on this machine.

    Raises UserError if there is none, or if MLflow cannot deliver its files.
    """
    return local.champion(data) or _download_champion(data)


def _download_champion(data: str) -> local.Version:
    import mlflow  # noqa: PLC0415  # takes seconds, which the default store does not need
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    from cnnlab.tracking import registry  # noqa: PLC0415
    from cnnlab.tracking.store import client, tracking_uri  # noqa: PLC0415

    store = client()
    mlflow.set_tracking_uri(tracking_uri())  # a server's artifact addresses are relative to it
    try:
        version = registry.champion(store, data)
        folder = registry.download(store, version) if version else Path()
    except (MlflowException, OSError) as error:
        raise UserError(
            f"Cannot load the champion of {data} from MLflow. Expected: its files in the store. "
            f"Received: {masked(str(error).partition(chr(10))[0])}"
        ) from error
    if version is None:
        raise UserError(
            f"No champion of {data}. Expected: alias {local.CHAMPION!r} of model {local.model_name(data)!r} in MLflow, "
            "which the first finished training on that data set sets. To fix this, run: make repro, or make train with "
            "VARIANT=… of that data set."
        )
    return local.Version(version.name, version.version, version.tags, folder)
