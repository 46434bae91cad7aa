"""Addresses (of data, of a tracking server): which can be used, and showing them without the secrets they may hold."""

import re
from urllib.parse import urlsplit

_SERVERS = ("http", "https")
_DATABASES = ("postgresql", "mysql", "mssql")  # with sqlite those that MLflow knows
# In a text: a scheme with `://` and what follows; or, however it was mistyped, a name and a password before an @.
_ADDRESS = re.compile(
    r"""(?<![\w+.-])[\w+.-]++://[^\s'"<>`]+ | (?<![^\s'"<>`])[^\s'"<>`:]{2,}+:[^\s'"<>`]*@[^\s'"<>`]*""", re.VERBOSE
)
_HOST = re.compile(r"(\[[\da-fA-F:.]+\]|[^:/\[\]\s]*)(:\d*)?(/|$)")


def is_address(text: str) -> bool:
    """Whether this is a URL, or meant as one (`https:/host`), and no path: a drive's name has one letter."""
    return re.match(r"\s*[A-Za-z][\w+.-]+:/", text) is not None


def may_hold_credentials(text: str) -> bool:
    """Whether this is an address that says more than scheme, host and path: a user, a password, a query."""
    # `user:password@host`, too, which lacks its scheme; no path has a colon and an @ so.
    without_scheme = re.match(r"[^/:]{2,}:.*@", text) is not None
    return without_scheme or (is_address(text) and any(sign in text for sign in "@?#"))


def store_problem(address: str) -> str | None:
    """What keeps MLflow from having a record at this address, as in `should be ...`; None where nothing does.

    Of an address the form is checked, without a network. Empty is the default's.
    """
    scheme, separator, rest = address.partition("://")
    kind = scheme.partition("+")[0]
    if not address or address == "databricks" or (kind == "databricks" and separator):
        return None
    if re.search(r"[\s'\"<>`]", address) and kind != "sqlite":
        return "should have no blanks or quotes in it; write them as %20, %27, %22"
    if kind in _SERVERS and separator:
        try:
            parts = urlsplit(address)
            if parts.hostname and parts.port != 0:
                return None
        except ValueError:
            pass
        return f"should be {kind}://HOST:PORT; a sign such as / ? # @ in a password is written as %2F %3F %23 %40"
    if kind == "sqlite" and separator:
        in_memory = re.fullmatch(r"/?(:memory:)?(\?.*)?", rest) or not rest.startswith("/")
        return "should be sqlite:///FILE, with three slashes; a record in memory would be lost" if in_memory else None
    if (kind in _DATABASES and separator) or address.partition(":")[0] in _of_plugins():
        return None
    return "should be http(s)://HOST:PORT, sqlite:///FILE, or a postgresql://, mysql:// or mssql:// database"


def _of_plugins() -> set[str]:
    """The schemes that other packages have taught MLflow."""
    from importlib.metadata import entry_points

    return {entry.name for entry in entry_points(group="mlflow.tracking_store")}


def shown_address(address: str) -> str:
    """A text that is an address as a whole, right or mistyped, without user, password and query."""
    if "@" not in address or re.match(r"sqlite(\+\w+)?:///", address):
        return redact(address) if "://" in address else re.split(r"[?#]", address, maxsplit=1)[0]
    before, _, place = address.rpartition("@")
    scheme = re.match(rf"({'|'.join((*_SERVERS, *_DATABASES, 'sqlite'))})(\+\w+)?://", before)
    place = re.split(r"[?#]", place, maxsplit=1)[0]
    # An @ after a `?` or `#` is of a query, or of a password that cannot be read with certainty.
    if re.search(r"[?#]", before) or not _HOST.match(place):
        place = "(hidden)"
    return f"{scheme[0]}{place}" if scheme else f"(hidden)@{place}"


def redact(text: str) -> str:
    """The text with each address in it cut to scheme, host and path; user, password and query may be secret."""
    return _ADDRESS.sub(lambda found: _bare(found[0]), text)


def _bare(address: str) -> str:
    scheme, separator, rest = address.partition("://")
    if not separator or not re.fullmatch(r"[\w+.-]+", scheme):  # `name:pass://word@host` has no scheme
        return shown_address(address)
    if scheme.partition("+")[0] in ("sqlite", "file") and rest.startswith("/"):
        return address.partition("?")[0]  # a path: it has no host, and no user before that
    place, *query = re.split(r"[?#]", rest, maxsplit=1)
    # Up to the last @, for a password may hold one.
    _, user, place = place.rpartition("@")
    in_query = "@" in "".join(query)
    # A password with an unescaped `/`, `?` or `#` makes an address that cannot be read with certainty.
    readable = _HOST.match(place) and (not in_query or ("/" in place and not user and ":" not in place))
    return f"{scheme}://{place if readable else '(hidden)'}"
