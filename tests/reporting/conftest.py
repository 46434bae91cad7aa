"""The parameters and the files that the report is made of."""

import pytest

from tests.support.report_files import write_run
from tests.support.repository import PARAMS
from tinystories.common.params import Params
from tinystories.common.params_file import load_params


@pytest.fixture
def params() -> Params:
    return load_params(PARAMS)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of two epochs, in the current directory."""
    monkeypatch.chdir(tmp_path)
    write_run(epochs=2)
