"""The device: its name, and its errors."""

import os

import pytest
import torch

from tinystories.model.device import device_name, processor, translate_device_errors


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
