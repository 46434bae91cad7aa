"""Addresses are shown without their secrets, alone and inside other text."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinystories.common.urls import may_hold_credentials, redact, shown_address, store_problem


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
def test_redact_removes_credentials(address, shown):
    assert redact(address) == shown


def test_redact_several_addresses():
    assert redact("at http://u:p@ss@h.example:5/a?k=v#f: 'x://y/z'") == "at http://h.example:5/a 'x://y/z'"
    assert redact("my/*.txt?") == "my/*.txt?"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http:/bob:S3cretPW@127.0.0.1:9", "(hidden)@127.0.0.1:9"),
        ("bob:S3cretPW@127.0.0.1:9/a?k=v", "(hidden)@127.0.0.1:9/a"),
        ("http://bob:S3 cr'et\"PW@127.0.0.1:9", "http://127.0.0.1:9"),
        ("http://bob:S3?cret@PW@host", "http://(hidden)"),
        ("http:/host?token=S3cretPW", "http:/host"),
        ("postgresql+psycopg2://bob:S3cretPW@host/db", "postgresql+psycopg2://host/db"),
        ("sqlite:////home/me@work/100 %25/a#b.db", "sqlite:////home/me@work/100 %25/a#b.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_shown_address_removes_secrets(address, shown):
    assert shown_address(address) == shown


# Signs that stand nowhere else in the address, so that each of them shown is a leak.
SECRET = st.text("XYZ ?#/:@'\"%<>`", min_size=3).filter(lambda text: set("XYZ") & set(text))


@given(
    st.sampled_from(["http://", "http:/", "http:", "", " https://", "htp://", "sqlite://", "url=http://"]),
    SECRET,
    SECRET,
)
def test_shown_address_any_password(front, user, password):
    address = f"{front}{user}:{password}@host:5000/path"
    assume(not address.startswith("sqlite:///"))  # a file, of any name
    assert not set("XYZ") & set(shown_address(address))


@given(st.sampled_from(["http://", "http:/", "bob:"]), st.text("XYZ?#/:@%", min_size=3))
def test_redact_any_password(front, password):
    said = redact(f"cannot reach ({front}bob:{password}@host:5000), sorry")
    assert not set("XYZ") & set(said)


def test_redact_leaves_registered_models():
    assert (
        redact("from models:/tinystories@champion to models:/a/1") == "from models:/tinystories@champion to models:/a/1"
    )
    assert "S3" not in redact("models://S3:S3cret@host") + redact("models:/S3:x@host")


def test_redact_long_words_fast():
    for word in ("a" * 10**6, "ab:" * 10**5, "a/b:" * 10**5, "a.b+" * 10**5):
        assert redact(word) == word


def test_may_hold_credentials_without_scheme():
    assert may_hold_credentials("bob:S3cretPW@host")
    assert not may_hold_credentials("stories/Tom: a@b.txt") and not may_hold_credentials("C:/stories@home/a.txt")


@pytest.mark.parametrize(
    "address",
    ["", "http://127.0.0.1:5000", "https://bob:pass@host.example/mlflow", "http://[::1]:5000", "sqlite:///mlflow.db",
     "sqlite:////a b/m'd.db?timeout=60", "sqlite+pysqlite:///m.db", "postgresql+psycopg2://bob:pass@host/db", "mysql://h/d",
     "mssql+pyodbc://h/d", "databricks", "databricks://profile"],
)  # fmt: skip
def test_store_problem_accepts(address):
    assert store_problem(address) is None


@pytest.mark.parametrize(
    "address",
    ["mlruns", "/tmp/mlruns", "file:///tmp/mlruns", "file:mlruns", "ftp://host/x", "http:/host", "http://", "http://:5000",
     "http://host:port", "bob:S3cret@host", "http://bob:S3 cret@host", "http://bob:S3'cret@host", "http://bob:S3/cret@host",
     "sqlite://", "sqlite:///:memory:", "sqlite://m.db", "postgresql:host/db", "uc", " http://host"],
)  # fmt: skip
def test_store_problem_refuses(address):
    assert (store_problem(address) or "").startswith("should ")


def test_store_problem_accepts_plugins(monkeypatch):
    monkeypatch.setattr("tinystories.common.urls._plugin_schemes", lambda: {"arn"})
    assert store_problem("arn:aws:sagemaker:eu-west-1:1:mlflow-tracking-server/x") is None
