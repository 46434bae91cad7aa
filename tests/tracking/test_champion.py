"""The registry's champion: publishing registers each model once, and the better one on the same stories wins."""

import hashlib
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.mlflow_runs import EVALUATION, change_params, change_run_file, client_of
from tinystories.common import paths
from tinystories.common.artifacts import EpochIndex, Manifest
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking import champion
from tinystories.tracking.champion import BITS_TAG, CONTEST_TAG, VALIDATION_TAG, Entry, register, registered_name
from tinystories.tracking.mlflow_models import WEIGHTS_TAG

NAME = "tinystories"


def publish_another(root: Path, number: int, bits: float, validation: str = "b") -> str:
    """Publish another training, of other weights. Returns its run's id."""
    change_run_file(run_id=None, key=f"{number:064x}")
    (paths.CHECKPOINT / "model.safetensors").write_text(f"weights {number}")
    EVALUATION.model_copy(update={"valid_bits_per_byte": bits}).write()
    manifest = Manifest.read()
    valid = manifest.valid.model_copy(update={"sha256": validation * 64})
    manifest.model_copy(update={"valid": valid}).write()
    return publish(load_params(), root)


def champion_of(root: Path) -> str:
    return str(client_of(root).get_model_version_by_alias(NAME, "champion").version)


@pytest.fixture
def best_was_first(files: Path) -> None:
    """The first of the two epochs was the best."""
    EpochIndex(epochs=[2], best=1).write()
    best = {"best_epoch": 1, "best_valid_loss": 2.0, "best_valid_bits_per_byte": 0.6}
    EVALUATION.model_copy(update=best).write()
    paths.BEST.mkdir(parents=True)
    (paths.BEST / "config.json").write_text("{}")
    (paths.BEST / "model.safetensors").write_text("the best weights")


@pytest.mark.parametrize(
    ("model", "epoch", "weights", "bits"), [("last", 2, "weights", 0.7), ("best", 1, "the best weights", 0.6)]
)
def test_publish_model_chooses_which_is_registered(root, best_was_first, model, epoch, weights, bits):
    change_params("model: last ", f"model: {model} ")
    run_id = publish(load_params(), root)
    client = client_of(root)
    version = client.get_model_version(NAME, champion_of(root))
    assert version.tags[WEIGHTS_TAG] == hashlib.sha256(weights.encode()).hexdigest()
    assert version.tags[BITS_TAG] == str(bits)
    models = client.search_logged_models([client.get_experiment_by_name(NAME).experiment_id])
    assert sorted(each.name for each in models) == ["epoch_1", "epoch_2"]  # also the one that is not published
    assert [each.name for each in models if each.artifact_location == version.source] == [f"epoch_{epoch}"]
    found = client.download_artifacts(run_id, "checkpoint/model.safetensors", str(root))
    assert Path(found).read_text() == weights
    metrics = client.get_run(run_id).data.metrics
    assert (metrics["final/valid_loss"], metrics["best_valid_loss"], metrics["best_epoch"]) == (2.25, 2.0, 1)


def test_better_model_on_the_same_stories_becomes_champion(root, files, capsys):
    first = publish_another(root, 1, bits=0.8)
    assert champion_of(root) == "1"
    worse = publish_another(root, 2, bits=0.9)
    assert champion_of(root) == "1"
    better = publish_another(root, 3, bits=0.6)
    assert champion_of(root) == "3"
    publish_another(root, 4, bits=0.1, validation="c")
    assert champion_of(root) == "3"
    said = [re.sub(r"models:/tinystories/", "", line) for line in capsys.readouterr().out.splitlines()[1::2]]
    assert said == [
        "1: champion, with 0.8000 bits per byte: there was none before",
        "2: 0.9000 bits per byte, 0.1000 (11.11%) more than version 1, which stays champion",
        "3: champion, with 0.6000 bits per byte: 0.2000 (25.00%) fewer than version 1",
        "4: no contest: champion is version 3, measured on other validation stories, and stays",
    ]
    client = client_of(root)
    for run_id, line in zip((first, worse, better), said, strict=False):
        assert client.get_run(run_id).data.tags[CONTEST_TAG] == f"version {line}"
    version = client.get_model_version(NAME, "3")
    assert (version.run_id, version.description) == (better, said[2].removeprefix("3: "))
    assert (version.tags[VALIDATION_TAG], version.tags[BITS_TAG]) == ("b" * 64, "0.6")
    experiments = [client.get_experiment_by_name(NAME).experiment_id]
    (model,) = client.search_logged_models(experiments, f"source_run_id = '{better}' AND name = 'epoch_2'")
    assert version.source == model.artifact_location
    assert model.tags[WEIGHTS_TAG] == version.tags[WEIGHTS_TAG]
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": version.version}]

    # Again, nothing is new; nor does a version take the alias back that its user gave to another.
    client.set_registered_model_alias(NAME, "champion", "2")
    publish_another(root, 3, bits=0.6)
    assert champion_of(root) == "2" and len(client.search_model_versions()) == 4


def entry(client: Any, number: int, bits: float) -> Entry:
    """A model without files."""
    name = "models"
    experiment = client.get_experiment_by_name(name)
    number_of_it = experiment.experiment_id if experiment else client.create_experiment(name)
    run = client.create_run(number_of_it)
    model = client.create_logged_model(number_of_it, source_run_id=run.info.run_id)
    return Entry(model.model_id, run.info.run_id, f"{number:064x}", "b" * 64, bits)


def test_two_that_publish_at_once_agree(root, monkeypatch):
    """Both have seen the old champion, and the worse one is the last to move the alias."""
    client = client_of(root)
    register(client, NAME, entry(client, 1, bits=0.9))
    worse, better = entry(client, 2, bits=0.8), entry(client, 3, bits=0.7)
    both_read, better_is_done = threading.Barrier(2, timeout=60), threading.Event()
    real_champion = champion._champion
    waited: set[str] = set()

    def slow_champion(client: Any, name: str) -> Any:
        found, who = real_champion(client, name), threading.current_thread().name
        if who not in waited and who in ("worse", "better"):
            waited.add(who)
            both_read.wait()
            if who == "worse":
                better_is_done.wait(60)
        return found

    monkeypatch.setattr(champion, "_champion", slow_champion)
    said: dict[str, str] = {}

    def publish_one(who: str, one: Entry) -> None:
        said[who] = register(client_of(root), NAME, one)[1]
        if who == "better":
            better_is_done.set()

    threads = [
        threading.Thread(target=publish_one, args=pair, name=pair[0]) for pair in (("worse", worse), ("better", better))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    best = client.get_model_version_by_alias(NAME, "champion")
    assert best.tags[WEIGHTS_TAG] == better.weights_sha256
    assert "fewer than version 1" in said["better"]
    assert said["worse"].endswith(f"more than version {best.version}, champion at the same moment")


def test_register_goes_on_after_a_kill(root, monkeypatch):
    """A version was made, and has not competed yet."""
    client = client_of(root)
    one = entry(client, 1, bits=0.9)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(champion, "_compete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        register(client, NAME, one)
    version, said = register(client, NAME, one)
    assert (version, said) == ("1", "champion, with 0.9000 bits per byte: there was none before")


def test_registered_name_is_one_that_mlflow_takes(root):
    client = client_of(root)
    for experiment in ("tinystories", "größe #1", "a/b: it's 5 %"):
        name = registered_name(experiment)
        assert register(client, name, entry(client, 1, bits=0.9))[0] == "1"
        assert client.get_model_version_by_alias(name, "champion").version
    assert registered_name("tinystories") == "tinystories"
