"""The device: its name, its threads, and its errors."""

import os

import pytest
import torch

from tinystories.model import device
from tinystories.model.device import device_name, limit_threads, processor, translate_device_errors


def test_translate_device_errors_leaves_mistakes_of_the_program():
    for text in ("shapes do not fit", "Expected all tensors to be on the same device, found cuda:0 and cpu"):
        with pytest.raises(RuntimeError, match=text), translate_device_errors("nothing"):
            raise RuntimeError(text)


def test_processor_has_a_name():
    assert processor().strip()


def test_device_name_tells_the_cores():
    name, cores = device_name(torch.device("cpu")).rsplit(", ", 1)
    assert name.strip()
    assert cores == f"{os.cpu_count()} cores"


@pytest.mark.parametrize(("by_user", "threads"), [(False, 2), (True, 3)])
def test_limit_threads_to_a_containers_cores_unless_the_user_has_set_them(monkeypatch, by_user, threads):
    monkeypatch.setattr(device, "usable_cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "")  # so that it is as before after the test
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS")
    if not by_user:
        monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        limit_threads()
        assert torch.get_num_threads() == threads
        assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "2"
    finally:
        torch.set_num_threads(before)
