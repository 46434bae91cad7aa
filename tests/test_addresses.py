"""Addresses are shown without their secrets, alone and inside other text."""

import pytest

from tinystories.addresses import without_credentials


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("", ""),
        ("my/stories?.txt", "my/stories?.txt"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("http://[::1]:5000/a", "http://[::1]:5000/a"),
        ("http://me:pass@host", "http://host"),
        ("http://host/a?mail=me@x&key=pass", "http://host/a"),
        ("http://me:p@ss@host/a", "http://host/a"),
        ("http://me:pa/ss@host/a", "http://host/a"),
        ("http://me:pa?ss@host", "http://(hidden)"),
        ("http://me:1?pass@host", "http://(hidden)"),
        ("http://me:pa#ss@host/a", "http://(hidden)"),
    ],
)
def test_addresses_without_credentials(address, shown):
    assert without_credentials(address) == shown


def test_addresses_are_cut_to_what_is_no_secret():
    assert without_credentials("at http://u:p@ss@h.example:5/a?k=v#f: 'x://y/z'") == "at http://h.example:5/a 'x://y/z'"
    assert without_credentials("my/*.txt?") == "my/*.txt?"
