"""Names and values of an MLflow run's parameters."""

from tests.support.mlflow_runs import change_params
from tinystories.common.params_file import load_params
from tinystories.tracking.metrics import flat_params


def test_flat_params_writes_numbers_as_dvc_shows_them(files):
    change_params("cooldown: 0.5 ", "cooldown: 0.50 ")
    params = flat_params(load_params())
    shown = {"train.save_every", "train.weight_decay", "train.learning_rate", "train.deterministic", "train.cooldown"}
    assert {name: params[name] for name in shown} == {
        "train.save_every": "30", "train.weight_decay": "0.0", "train.learning_rate": "0.007",
        "train.deterministic": "false", "train.cooldown": "0.5",
    }  # fmt: skip
