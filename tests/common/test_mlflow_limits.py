"""What is too long for MLflow is cut so that one can see it, or refused before any work."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlRun
from mlflow.utils import validation

from tinystories.common import mlflow_limits
from tinystories.common.mlflow_limits import MAX_SOURCE, cut, cut_source

pytestmark = pytest.mark.slow


def test_limits_of_the_installed_mlflow():
    assert mlflow_limits.MAX_EXPERIMENT_NAME <= validation.MAX_EXPERIMENT_NAME_LENGTH
    assert SqlExperiment.__table__.c.name.type.length == mlflow_limits.MAX_EXPERIMENT_NAME
    assert SqlRun.__table__.c.name.type.length == mlflow_limits.MAX_RUN_NAME
    assert mlflow_limits.MAX_PARAM == validation.MAX_PARAM_VAL_LENGTH
    assert mlflow_limits.MAX_TAG == validation.MAX_TAG_VAL_LENGTH
    assert validation.MAX_DATASET_SOURCE_SIZE == MAX_SOURCE


@given(st.text(max_size=200), st.integers(40, 120))
def test_cut_says_so(text, longest):
    shown = cut(text, longest)
    assert len(shown) <= longest
    assert shown == text or (shown.endswith(f" ... ({len(text):,} characters)") and text.startswith(shown[:10]))


@given(st.integers(0, 3000), st.integers(0, 5000), st.text(max_size=20))
def test_cut_source_is_json_that_fits(files, length, name):
    source = {"tags": {"train": [{"path": name + "ü" * length, "bytes": 1}] * files, "held_out": 0.1}}
    text = cut_source(source)
    assert len(text) <= MAX_SOURCE and text.isascii()
    assert json.loads(text)["tags"]["held_out"] == 0.1
    if len(json.dumps(source)) <= MAX_SOURCE and length < 900:
        assert json.loads(text) == source
