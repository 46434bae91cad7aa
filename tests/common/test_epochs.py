"""Evenly spaced choices, and the epochs after which samples are shown."""

from tinystories.common.epochs import epochs_with_samples, evenly_spaced


def test_evenly_spaced_has_the_first_and_the_last():
    assert evenly_spaced(1, 6) == [0]
    assert evenly_spaced(4, 6) == [0, 1, 2, 3]
    assert evenly_spaced(40, 6) == [0, 8, 16, 23, 31, 39]


def test_epochs_with_samples_are_at_most_six_and_count_from_one():
    assert epochs_with_samples(1) == [1]
    assert epochs_with_samples(6) == [1, 2, 3, 4, 5, 6]
    assert epochs_with_samples(40) == [1, 9, 17, 24, 32, 40]
