"""Smoothing, and evenly spaced choices."""

import numpy as np

from tinystories.reporting.series import evenly_spaced, smooth


def test_smooth_removes_noise_only():
    place = np.arange(1, 2001)
    curve = 1.5 + 8 * place**-0.5
    noisy = smooth(curve + np.random.default_rng(1).normal(0, 0.2, 2000))
    assert np.abs(noisy[200:] - curve[200:]).mean() < 0.04
    assert np.abs(smooth(curve) - curve).max() < 0.2  # a fixed window of the same width misses the start by 3
    assert smooth(curve[:49]).tolist() == curve[:49].tolist()


def test_evenly_spaced_has_the_first_and_the_last():
    assert evenly_spaced(1, 6) == [0]
    assert evenly_spaced(4, 6) == [0, 1, 2, 3]
    assert evenly_spaced(40, 6) == [0, 8, 16, 23, 31, 39]
