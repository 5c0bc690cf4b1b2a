"""Which run becomes champion, and inputs and outputs of a registered model; with a real store."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from see.small_nets import noise
from use.registered import CHANNELS, CLASSES, SIDE, finish, network, probabilities

from cnnlab.tracking import registry
from cnnlab.tracking import runs as track
from cnnlab.tracking import store as tracking_store
from cnnlab.tracking.registry import Proposal
from cnnlab.use.network import champion

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::keras")  # their own


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mlflow.MlflowClient]:
    """A client of a store in the working folder; every test has a data set of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it when it logs a model: forgotten with this fixture
        patch.delenv("MLFLOW_TRACKING_URI")
        patch.chdir(tmp_path_factory.mktemp("checkout"))
        yield tracking_store.client()
        mlflow.set_tracking_uri(None)


def versions(store: mlflow.MlflowClient, data: str) -> list[tuple[str, bool]]:
    """Of every version, oldest first: its run's variant, and whether it is the champion."""
    found = store.search_model_versions(f"name = 'cnnlab-{data}'")
    best = registry.champion(store, data)
    ordered = sorted(found, key=lambda version: int(version.version))
    return [(version.tags["variant"], bool(best) and version.version == best.version) for version in ordered]


def test_a_better_finished_run_becomes_champion_and_the_old_one_stays(
    store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert registry.champion(store, "order") is None
    for name, accuracy in (("a", 0.5), ("b", 0.4), ("c", 0.5), ("d", 0.6), ("e", 0.59)):
        finish(name, accuracy, data="order")
    assert versions(store, "order") == [("a", False), ("d", True)]
    best = registry.champion(store, "order")
    assert best
    assert best.tags["validation_accuracy"] == "0.6"
    assert "0.6000; formerly version 1: 0.5" in capsys.readouterr().out


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_run_that_did_not_finish_is_no_champion(store: mlflow.MlflowClient, status: str) -> None:
    data = status.lower()
    run = finish("a", 0.9, status, data=data)
    assert versions(store, data) == []
    finish("b", 0.1, data=data)
    finish("c", 0.9, status, data=data)
    assert versions(store, data) == [("b", True)]
    finish("a", 0.9, data=data, known_id=run.id)  # continued, and finished
    assert versions(store, data) == [("b", False), ("a", True)]


def test_a_run_that_finishes_again_is_registered_once(store: mlflow.MlflowClient) -> None:
    run = finish("a", 0.5, data="again")
    finish("a", 0.5, data="again", known_id=run.id)
    assert versions(store, "again") == [("a", True)]
    finish("b", 0.6, data="again")
    finish("a", 0.5, data="again", known_id=run.id)
    assert versions(store, "again") == [("a", False), ("b", True)]


def test_a_start_after_a_kill_between_version_and_alias_sets_the_alias(store: mlflow.MlflowClient) -> None:
    run = finish("a", 0.5, data="half")
    store.delete_registered_model_alias("cnnlab-half", "champion")
    assert versions(store, "half") == [("a", False)]
    finish("a", 0.5, data="half", known_id=run.id)
    assert versions(store, "half") == [("a", True)]


def test_a_network_for_other_pictures_does_not_compete_but_takes_over(store: mlflow.MlflowClient) -> None:
    finish("a", 0.9, data="swapped")
    finish("b", 0.5, data="swapped", digest="other pictures")
    finish("c", 0.4, data="swapped", digest="other pictures")
    assert versions(store, "swapped") == [("a", False), ("b", True)]


def test_a_run_that_proposes_another_network_is_registered_again(store: mlflow.MlflowClient) -> None:
    run = finish("a", 0.5, data="new")
    finish("b", 0.6, data="new")
    finish("a", 0.7, data="new", seed=1, known_id=run.id)
    assert versions(store, "new") == [("a", False), ("b", False), ("a", True)]
    own = noise(3, SIDE, CHANNELS)
    np.testing.assert_allclose(champion("new").classifier.probabilities(own), probabilities(own, seed=1), atol=1e-6)


def test_a_champion_appointed_by_hand_is_replaced_by_a_run(store: mlflow.MlflowClient) -> None:
    run = finish("a", 0.5, data="hand")
    by_hand = store.create_model_version("cnnlab-hand", registry.champion(store, "hand").source, run.id)
    store.set_registered_model_alias("cnnlab-hand", "champion", by_hand.version)
    finish("b", 0.4, data="hand")
    best = registry.champion(store, "hand")
    assert best
    assert best.tags["variant"] == "b"


def test_an_accuracy_that_is_no_number_wins_nothing(store: mlflow.MlflowClient) -> None:
    finish("a", float("nan"), data="none")
    assert versions(store, "none") == []


def test_a_record_sent_late_does_not_depose_who_came_meanwhile(store: mlflow.MlflowClient, tmp_path: Path) -> None:
    """As `make sync` sends it after days; and of a run that is running again."""
    finish("a", 0.5, data="late")
    late = Proposal("late", "same images", 0.4, CLASSES, "")
    path = tmp_path / "network.keras"
    network().save(path)
    run = track.TrackedRun.start("late", "late", "late", {}, {})
    registry.compete(store, run.id, Proposal("late", "same images", 0.9, CLASSES, ""), path, noise(1, SIDE, CHANNELS))
    run.finish()
    registry.compete(store, run.id, late, path, noise(1, SIDE, CHANNELS))
    assert versions(store, "late") == [("a", True)]


def test_runs_that_finish_at_once_leave_the_best_as_champion(store: mlflow.MlflowClient) -> None:
    threads = [threading.Thread(target=finish, args=(f"r{i}", i / 10), kwargs={"data": "race"}) for i in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert versions(store, "race")[-1] == ("r4", True)


def test_the_champion_takes_pictures_of_any_size_and_kind(store: mlflow.MlflowClient) -> None:
    finish("a", 0.5, data="sizes")
    classifier = champion("sizes").classifier
    assert classifier.classes == CLASSES
    own = noise(5, SIDE, CHANNELS)
    np.testing.assert_allclose(classifier.probabilities(own), probabilities(own), atol=1e-6)
    grey = noise(3, SIDE)
    np.testing.assert_allclose(classifier.probabilities(grey), probabilities(grey.repeat(3, axis=3)), atol=1e-6)
    opaque = np.concatenate([own, np.full((5, SIDE, SIDE, 1), 255, np.uint8)], axis=3)
    np.testing.assert_allclose(classifier.probabilities(opaque), probabilities(own), atol=1e-6)
    doubled = own.repeat(2, axis=1).repeat(2, axis=2)[:, :, :, :]
    mixed = [own[0], doubled[1], grey[0]]
    predicted = classifier.probabilities(mixed)
    np.testing.assert_allclose(predicted[0], probabilities(own)[0], atol=1e-6)
    np.testing.assert_allclose(predicted.sum(axis=1), 1, rtol=1e-5)
    assert classifier.probabilities([]).shape == (0, 3)


def test_a_registered_model_has_signature_example_and_card(store: mlflow.MlflowClient) -> None:
    finish("a", 0.5, data="said")
    version = registry.champion(store, "said")
    assert version
    assert version.description == "# Card of a"
    mlflow.set_tracking_uri(tracking_store.tracking_uri())
    model = mlflow.pyfunc.load_model("models:/cnnlab-said@champion")
    (taken,) = model.metadata.signature.inputs.inputs
    assert (taken.type, taken.shape) == (np.dtype(np.uint8), (-1, -1, -1, -1))
    assert model.metadata.signature.outputs.input_names() == ["class", "probability", "probabilities"]
    example = np.asarray(model.input_example, np.uint8)
    np.testing.assert_array_equal(example, noise(2, SIDE, CHANNELS))
    expected = probabilities(example)
    predicted = model.predict(example)
    assert [*predicted["class"]] == [CLASSES[index] for index in expected.argmax(axis=1)]
    np.testing.assert_allclose(predicted["probability"], expected.max(axis=1), rtol=1e-5)
    for row, wanted in zip(predicted["probabilities"], expected, strict=True):
        assert row == pytest.approx(dict(zip(CLASSES, wanted, strict=True)), rel=1e-5)
    with pytest.raises(mlflow.MlflowException, match=r"1, 3 or 4 channels\. Received: uint8 of shape \(5, 5, 2\)"):
        model.predict(np.zeros((1, 5, 5, 2), np.uint8))


ELSEWHERE = """
import json, sys
sys.modules["cnnlab"] = None  # as where cnnlab is not installed
import mlflow, numpy
model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(model.predict(numpy.zeros((1, 30, 20, 3), numpy.uint8)).to_dict("records")))
"""


def test_a_registered_model_does_not_need_cnnlab(store: mlflow.MlflowClient, tmp_path: Path) -> None:
    finish("a", 0.5, data="alone")
    version = registry.champion(store, "alone")
    assert version
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, version.source], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (predicted,) = json.loads(done.stdout.splitlines()[-1])
    black = probabilities(np.zeros((1, SIDE, SIDE, CHANNELS), np.uint8))[0]
    assert predicted["probabilities"] == pytest.approx(dict(zip(CLASSES, black, strict=True)), rel=1e-5)
