"""Models in MLflow: each run's own, and of every data set the champion, which anyone can load by its name."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import mlflow
import numpy as np
from filelock import FileLock
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Map

from cnnlab.files import MLRUNS

CHAMPION = "champion"  # the alias
CONTENT = "content.sha256"  # of the data and classes a version is for; a tag
ACCURACY = "validation_accuracy"  # what decides; a tag of every version
_LOCK = MLRUNS / ".registry.lock"
_PICTURES = Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, -1))])
_TOLD = Schema(
    [
        ColSpec(DataType.string, "class"),
        ColSpec(DataType.double, "probability"),
        ColSpec(Map(DataType.double), "probabilities"),
    ]
)


@dataclass(frozen=True)
class Proposal:
    """A finished run's network, to become the champion of `data` if its validation accuracy is the highest so far.

    Only networks for the same pictures and classes compete: `digest` is the SHA-256 of the training part, `classes` are
    the names of what the network tells, in order. `card` describes it in Markdown.
    """

    data: str
    digest: str
    accuracy: float
    classes: Sequence[str]
    card: str


def name_of(data: str) -> str:
    """The name under which the registry keeps the models of a data set."""
    return f"cnnlab-{data}"


def champion(store: mlflow.MlflowClient, data: str) -> ModelVersion | None:
    """The registered version that is the champion of a data set; None where there is none yet."""
    try:
        return store.get_model_version_by_alias(name_of(data), CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no model; no such alias
            return None
        raise


def keep(store: mlflow.MlflowClient, run_id: str, path: Path, example: np.ndarray) -> None:
    """Keep a Keras file as the run's one model. It becomes the run's output last, so an output is a whole model."""
    run = store.get_run(run_id)
    if run.outputs and run.outputs.model_outputs:
        return
    entry = _logged(store, run_id, "model", partial(_save_network, path, example))
    store.log_outputs(run_id, [LoggedModelOutput(entry.model_id, step=0)])


def compete(store: mlflow.MlflowClient, run_id: str, proposal: Proposal, network: Path, example: np.ndarray) -> None:
    """Register the network of a finished run and make it the champion, if it beats the present one on validation.

    `network` is a Keras file of uint8 pictures to logits (`nets.whole`), `example` pictures to try it on, uint8
    (n, height, width, channels). A run that is not finished, or is no better, changes nothing; the old champion stays
    as a version. Doing it again changes nothing.
    """
    name, accuracy = name_of(proposal.data), proposal.accuracy
    tags = {ACCURACY: str(accuracy), CONTENT: _content(proposal)}
    with FileLock(_LOCK):
        best = champion(store, proposal.data)
        beaten = best is None or best.tags.get(CONTENT) != tags[CONTENT] or accuracy > float(best.tags[ACCURACY])
        if store.get_run(run_id).info.status != "FINISHED" or not (beaten and np.isfinite(accuracy)):
            return
        earlier = _registered(store, name, run_id, tags)
        version = earlier or _register(store, name, run_id, tags, proposal, network, example)
        store.set_registered_model_alias(name, CHAMPION, version.version)
    before = f"; before it version {best.version}: {best.tags.get(ACCURACY, 'unknown')}" if best else ""
    told = f"{name} has a new champion, version {version.version}, {ACCURACY} {accuracy:.4f}{before}"
    print(f"MLflow: {told}", flush=True)


def _content(proposal: Proposal) -> str:
    """The digest of what networks must have in common to compete."""
    return hashlib.sha256(json.dumps([proposal.digest, *proposal.classes]).encode()).hexdigest()


def _registered(store: mlflow.MlflowClient, name: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion | None:
    """The run's version of the same network, where an earlier try was killed after making it."""
    found = store.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return next((version for version in found if tags.items() <= version.tags.items()), None)


def _register(
    store: mlflow.MlflowClient,
    name: str,
    run_id: str,
    tags: Mapping[str, str],
    proposal: Proposal,
    network: Path,
    example: np.ndarray,
) -> ModelVersion:
    try:
        about = f"Tells which class of {proposal.data} a picture shows. The best on validation is `{CHAMPION}`."
        store.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    entry = _logged(store, run_id, "classifier", partial(_save, proposal, network, example))
    told = store.get_run(run_id).data.tags
    shown = {**tags, **{key: told[key] for key in ("variant", "seed") if key in told}}
    return store.create_model_version(
        name, entry.artifact_location, run_id, shown, description=proposal.card, model_id=entry.model_id
    )


def _logged(store: mlflow.MlflowClient, run_id: str, name: str, save: Callable[[Path, Model], None]) -> LoggedModel:
    """What `save` writes, as a model of the run; what an earlier try left half-made is removed."""
    run = store.get_run(run_id)
    where = f"source_run_id = '{run_id}' AND name = '{name}'"
    for half in store.search_logged_models([run.info.experiment_id], where):
        store.delete_logged_model(half.model_id)
    entry = store.create_logged_model(run.info.experiment_id, name, run_id, params=run.data.params)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        save(folder, Model(entry.artifact_location, run_id, model_uuid=entry.model_id, model_id=entry.model_id))
        store.log_model_artifacts(entry.model_id, str(folder))
    return store.finalize_logged_model(entry.model_id, "READY")


def _save_network(path: Path, example: np.ndarray, folder: Path, card: Model) -> None:
    import keras  # noqa: PLC0415  # only a run with a model waits for TensorFlow
    import mlflow.tensorflow  # noqa: PLC0415

    model = keras.saving.load_model(path, compile=False)
    outputs = np.asarray(model(example))
    signature = ModelSignature(
        inputs=Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
        outputs=Schema([TensorSpec(outputs.dtype, (-1, *outputs.shape[1:]))]),
    )
    keras.config.disable_interactive_logging()  # MLflow tries the example, which would print a progress bar
    mlflow.tensorflow.save_model(
        model,
        folder,
        mlflow_model=card,
        signature=signature,
        input_example=example,
        pip_requirements=_requirements(),
    )


def _save(proposal: Proposal, network: Path, example: np.ndarray, folder: Path, card: Model) -> None:
    """A model of raw pictures of any size to classes: the program `classifier.py`, the network, names and card."""
    import mlflow.pyfunc  # noqa: PLC0415

    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # it would tell that it tries the example
    with tempfile.TemporaryDirectory() as temporary:
        names, described = Path(temporary) / "classes.json", Path(temporary) / "card.md"
        names.write_text(json.dumps([*proposal.classes]), encoding="utf-8")
        described.write_text(proposal.card, encoding="utf-8")
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(Path(__file__).with_name("classifier.py")),
            artifacts={"network": str(network), "classes": str(names), "card": str(described)},
            mlflow_model=card,
            signature=ModelSignature(inputs=_PICTURES, outputs=_TOLD),
            input_example=example,
            pip_requirements=[
                *_requirements(),
                *(f"{name}=={metadata.version(name)}" for name in ("numpy", "pandas", "pillow")),
            ],
        )


def _requirements() -> list[str]:
    """Named here, because finding them out would load the model in a second process."""
    import keras  # noqa: PLC0415
    import tensorflow  # noqa: PLC0415

    return [f"tensorflow=={tensorflow.__version__}", f"keras=={keras.__version__}"]
