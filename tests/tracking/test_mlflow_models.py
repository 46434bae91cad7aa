"""The models of a run: logged once, ranked by MLflow, readable where they land. A real sqlite store."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from tests.support.mlflow_runs import EPOCHS, change_run_file, client_of
from tinystories.common import paths
from tinystories.common.artifacts import EpochIndex
from tinystories.common.errors import UserError
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking import mlflow_models


@pytest.fixture(autouse=True)
def first_epoch(files):
    """The weights of the first epoch were kept, too."""
    EpochIndex(epochs=[1, 2], best=2).write()
    paths.epoch_checkpoint(1).mkdir(parents=True)
    (paths.epoch_checkpoint(1) / "model.safetensors").write_text("weights of the first epoch")


def models(root, **search):
    client = client_of(root)
    return list(client.search_logged_models([client.get_experiment_by_name("tinystories").experiment_id], **search))


def test_each_kept_epoch_is_a_model_and_mlflow_ranks_them(root, files):
    run_id = publish(load_params(), root)
    ranked = models(root, order_by=[{"field_name": "metrics.valid_bits_per_byte", "ascending": True,
                                     "dataset_name": "embedded", "dataset_digest": "b" * 16}])  # fmt: skip
    assert [model.name for model in ranked] == ["epoch_2", "epoch_1"]
    assert len(models(root, filter_string=f"metrics.valid_bits_per_byte < {EPOCHS[0].valid_bits_per_byte}")) == 1
    for model, row in zip(ranked, reversed(EPOCHS), strict=True):
        assert (model.source_run_id, model.status, model.params["step"]) == (run_id, "READY", str(row.step))
        assert {metric.key: metric.value for metric in model.metrics} == {
            "valid_loss": row.valid_loss, "valid_bits_per_byte": row.valid_bits_per_byte,
        }  # fmt: skip
    run = client_of(root).get_run(run_id)
    assert {output.model_id: output.step for output in run.outputs.model_outputs} == {
        model.model_id: int(model.params["step"]) for model in ranked
    }


def test_model_has_the_weights_and_no_pickle_and_no_path_of_here(root, files):
    (paths.CHECKPOINT / "model.safetensors").chmod(0o400)  # as DVC leaves what it links
    publish(load_params(), root)
    first, last = sorted(models(root), key=lambda model: model.name)
    for model, source in ((first, paths.epoch_checkpoint(1)), (last, paths.CHECKPOINT)):
        place = Path(url2pathname(urlsplit(model.artifact_location).path))
        found = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
        (weights,) = place.rglob("model.safetensors")
        assert weights.read_bytes() == (source / "model.safetensors").read_bytes()
        assert weights.stat().st_mode & 0o200
        assert "served_model.py" in found and not [name for name in found if name.endswith((".pkl", ".pyc"))]
        said = (place / "MLmodel").read_text()
        assert "model_code_path: served_model.py" in said
        assert not any(str(path) in said for path in (root, files, Path(mlflow_models.__file__).parent))


def test_publish_again_logs_no_second_model(root, files, monkeypatch):
    def killed(*_):
        raise ConnectionError("the server is gone")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="the server is gone"):
        patch.setattr(mlflow_models, "_upload", killed)
        publish(load_params(), root)
    first = publish(load_params(), root)
    assert [model.status for model in models(root)] == ["READY", "READY"]
    ids = {model.model_id for model in models(root)}
    change_run_file(run_id=first)
    shutil.rmtree(root / "mlartifacts" / "models")  # the database alone was copied
    publish(load_params(), root)
    assert {model.model_id for model in models(root)} == ids
    assert len(client_of(root).get_run(first).outputs.model_outputs) == 2
    assert len(list((root / "mlartifacts").rglob("served_model.py"))) == 2
    assert [len(model.metrics) for model in models(root)] == [2, 2]


def test_missing_weights_are_refused_before_anything_is_sent(root, files):
    (paths.epoch_checkpoint(1) / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"epoch_1/model.safetensors: no such file; .*dvc repro -f -s train"):
        publish(load_params(), root)
    assert client_of(root).get_experiment_by_name("tinystories") is None
