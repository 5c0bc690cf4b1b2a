"""Models in MLflow: one logged model per run, and in the registry one champion per data set."""

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

from cnnlab.errors import UserError
from cnnlab.files import MANIFEST, MLRUNS, sha256, write_manifest
from cnnlab.tracking import local
from cnnlab.tracking.local import ACCURACY, CHAMPION, FILES, model_name

CONTENT = "content.sha256"  # tag of a version: digest of its data and classes
_LOCK = MLRUNS / ".registry.lock"
_IMAGES = Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, -1))])
_PREDICTIONS = Schema(
    [
        ColSpec(DataType.string, "class"),
        ColSpec(DataType.double, "probability"),
        ColSpec(Map(DataType.double), "probabilities"),
    ]
)


@dataclass(frozen=True)
class Proposal:
    """A finished run's network, a candidate for the champion of `data`: the highest validation accuracy wins.

    Only networks for the same images and classes compete: `digest` is the SHA-256 of the training set, `classes` are
    the class names in order. `card` is the model card, in Markdown.
    """

    data: str
    digest: str
    accuracy: float
    classes: Sequence[str]
    card: str


def champion(store: mlflow.MlflowClient, data: str) -> ModelVersion | None:
    """The registered version that is the champion of a data set; None if there is none yet."""
    try:
        return store.get_model_version_by_alias(model_name(data), CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no model; no such alias
            return None
        raise


def download(store: mlflow.MlflowClient, version: ModelVersion, target: str | None = None) -> Path:
    """Folder of a version's files, verified by digest: copied to `target`, by default only if the store is remote.

    Raises UserError for a damaged file, MlflowException or OSError where the store does not deliver.
    """
    folder = Path(mlflow.artifacts.download_artifacts(version.source, dst_path=target, tracking_uri=store.tracking_uri))
    return local.verified_files(folder, version.version, version.tags)


def log_model(store: mlflow.MlflowClient, run_id: str, path: Path, example: np.ndarray) -> None:
    """Log a Keras file as the run's only model. Linking it as the run's output comes last, so an output is complete."""
    run = store.get_run(run_id)
    if run.outputs and run.outputs.model_outputs:
        return
    entry, _ = _logged(store, run_id, "model", partial(_save_network, path, example))
    store.log_outputs(run_id, [LoggedModelOutput(entry.model_id, step=0)])


def compete(store: mlflow.MlflowClient, run_id: str, proposal: Proposal, network: Path, example: np.ndarray) -> None:
    """Register the network of a finished run and make it the champion if its validation accuracy is higher.

    `network` is a Keras file (uint8 images to logits, `nets.inference`), `example` a batch of images to try it on,
    uint8 (n, height, width, channels). A run that did not finish or is no better changes nothing, unless the champion's
    files are damaged; the former champion stays as a version. Idempotent.
    """
    name, accuracy = model_name(proposal.data), proposal.accuracy
    tags = {ACCURACY: str(accuracy), CONTENT: _content(proposal)}
    with FileLock(_LOCK):
        if store.get_run(run_id).info.status != "FINISHED" or not np.isfinite(accuracy):
            return
        best = champion(store, proposal.data)
        comparable = best is not None and best.tags.get(CONTENT) == tags[CONTENT]
        if best and comparable and accuracy <= float(best.tags[ACCURACY]) and _is_intact(store, best):
            return
        earlier = None if best and best.run_id == run_id else _registered(store, name, run_id, tags)
        version = earlier or _register(store, name, run_id, tags, proposal, network, example)
        store.set_registered_model_alias(name, CHAMPION, version.version)
    before = f"; formerly version {best.version}: {best.tags.get(ACCURACY, 'unknown')}" if best else ""
    print(f"MLflow: new champion of {name}, version {version.version}, {ACCURACY} {accuracy:.4f}{before}", flush=True)


def _is_intact(store: mlflow.MlflowClient, version: ModelVersion) -> bool:
    """Whether a version's files are as they were registered; of versions without digests, whether they are there."""
    try:
        with tempfile.TemporaryDirectory() as temporary:
            if FILES in version.tags:
                download(store, version, temporary)
            else:
                mlflow.artifacts.download_artifacts(version.source, dst_path=temporary, tracking_uri=store.tracking_uri)
    except UserError:
        return False
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def _content(proposal: Proposal) -> str:
    """Digest of what competing networks have in common."""
    return hashlib.sha256(json.dumps([proposal.digest, *proposal.classes]).encode()).hexdigest()


def _registered(store: mlflow.MlflowClient, name: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion | None:
    """The run's version of the same network, from an earlier attempt that was killed after creating it."""
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
        description = f"Image classifiers for {proposal.data}. `{CHAMPION}` has the highest validation accuracy."
        store.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    entry, digest = _logged(store, run_id, "classifier", partial(_save, proposal, network, example))
    of_run = store.get_run(run_id).data.tags
    shown = {**tags, FILES: digest, **{key: of_run[key] for key in ("variant", "seed") if key in of_run}}
    return store.create_model_version(
        name, entry.artifact_location, run_id, shown, description=proposal.card, model_id=entry.model_id
    )


def _logged(
    store: mlflow.MlflowClient, run_id: str, name: str, save: Callable[[Path, Model], None]
) -> tuple[LoggedModel, str]:
    """Log what `save` writes as a model of the run; returns it and the digest of its SHA256SUMS.

    Incomplete models of earlier attempts are deleted.
    """
    run = store.get_run(run_id)
    where = f"source_run_id = '{run_id}' AND name = '{name}'"
    for incomplete in store.search_logged_models([run.info.experiment_id], where):
        store.delete_logged_model(incomplete.model_id)
    entry = store.create_logged_model(run.info.experiment_id, name, run_id, params=run.data.params)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        save(folder, Model(entry.artifact_location, run_id, model_uuid=entry.model_id, model_id=entry.model_id))
        write_manifest(folder, "**/*")
        digest = sha256(folder / MANIFEST)
        store.log_model_artifacts(entry.model_id, str(folder))
    return store.finalize_logged_model(entry.model_id, "READY"), digest


def _save_network(path: Path, example: np.ndarray, folder: Path, card: Model) -> None:
    import keras  # noqa: PLC0415  # only runs with a model need TensorFlow
    import mlflow.tensorflow  # noqa: PLC0415

    model = keras.saving.load_model(path, compile=False)
    outputs = np.asarray(model(example))
    signature = ModelSignature(
        inputs=Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
        outputs=Schema([TensorSpec(outputs.dtype, (-1, *outputs.shape[1:]))]),
    )
    keras.config.disable_interactive_logging()  # MLflow runs the example, which would print a progress bar
    mlflow.tensorflow.save_model(
        model,
        folder,
        mlflow_model=card,
        signature=signature,
        input_example=example,
        pip_requirements=_requirements(),
    )


def _save(proposal: Proposal, network: Path, example: np.ndarray, folder: Path, card: Model) -> None:
    """Save a classifier of images of any size: the program `classifier.py`, the network, class names and card."""
    import mlflow.pyfunc  # noqa: PLC0415

    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # it would log that it runs the example
    with tempfile.TemporaryDirectory() as temporary:
        names, text = Path(temporary) / "classes.json", Path(temporary) / "card.md"
        names.write_text(json.dumps([*proposal.classes]), encoding="utf-8")
        text.write_text(proposal.card, encoding="utf-8")
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(Path(__file__).with_name("classifier.py")),
            artifacts={"network": str(network), "classes": str(names), "card": str(text)},
            mlflow_model=card,
            signature=ModelSignature(inputs=_IMAGES, outputs=_PREDICTIONS),
            input_example=example,
            pip_requirements=[
                *_requirements(),
                *(f"{name}=={metadata.version(name)}" for name in ("numpy", "pandas", "pillow")),
            ],
        )


def _requirements() -> list[str]:
    """Named here because MLflow's inference of requirements loads the model in a second process."""
    import keras  # noqa: PLC0415
    import tensorflow  # noqa: PLC0415

    return [f"tensorflow=={tensorflow.__version__}", f"keras=={keras.__version__}"]
