"""URLs of data and tracking servers: check them, and redact the credentials in them."""

import re
from urllib.parse import urlsplit

_SERVERS = ("http", "https")
_DATABASES = ("postgresql", "mysql", "mssql")  # with sqlite those that MLflow knows
# In a text: a scheme with `://` and what follows; or a name and a password before an @, however mistyped.
_ADDRESS = re.compile(
    r"""(?<![\w+.-])[\w+.-]++://[^\s'"<>`]+ | (?<![^\s'"<>`])[^\s'"<>`:]{2,}+:[^\s'"<>`]*@[^\s'"<>`]*""", re.VERBOSE
)
# In MLflow: a version by its alias or number, or a logged model by its id.
REGISTERED_MODEL = re.compile(
    r"models:/(?:(?P<id>m-[\da-f]{32})|(?P<name>[^/:@]+)(?:@(?P<alias>[^/:@]+)|/(?P<version>\d+)))"
)
_HOST = re.compile(r"(\[[\da-fA-F:.]+\]|[^:/\[\]\s]*)(:\d*)?(/|$)")


def is_address(text: str) -> bool:
    """Whether this is a URL, or meant as one (`https:/host`), and not a path. The name of a drive has one letter."""
    return re.match(r"\s*[A-Za-z][\w+.-]+:/", text) is not None


def may_hold_credentials(text: str) -> bool:
    """Whether this is an address with more than scheme, host and path: a user, a password, a query."""
    # Also `user:password@host` without a scheme; no path has a colon and an @ in this order.
    without_scheme = re.match(r"[^/:]{2,}:.*@", text) is not None
    return without_scheme or (is_address(text) and any(sign in text for sign in "@?#"))


def store_problem(address: str) -> str | None:
    """Explain why MLflow cannot track runs at this address, as in `should be ...`. None where it can.

    Only the form is checked, without a network. An empty address means the default.
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
    if (kind in _DATABASES and separator) or address.partition(":")[0] in _plugin_schemes():
        return None
    return "should be http(s)://HOST:PORT, sqlite:///FILE, or a postgresql://, mysql:// or mssql:// database"


def _plugin_schemes() -> set[str]:
    """The schemes that plugins add to MLflow."""
    from importlib.metadata import entry_points

    return {entry.name for entry in entry_points(group="mlflow.tracking_store")}


def shown_address(address: str) -> str:
    """Remove user, password and query from a text that is one address, correct or mistyped."""
    if "@" not in address or re.match(r"sqlite(\+\w+)?:///", address):
        return redact(address) if "://" in address else re.split(r"[?#]", address, maxsplit=1)[0]
    before, _, place = address.rpartition("@")
    scheme = re.match(rf"({'|'.join((*_SERVERS, *_DATABASES, 'sqlite'))})(\+\w+)?://", before)
    place = re.split(r"[?#]", place, maxsplit=1)[0]
    # An @ after a `?` or `#` belongs to a query, or to a password that cannot be parsed reliably.
    if re.search(r"[?#]", before) or not _HOST.match(place):
        place = "(hidden)"
    return f"{scheme[0]}{place}" if scheme else f"(hidden)@{place}"


def redact(text: str) -> str:
    """Cut each address in a text to scheme, host and path: user, password and query may be secret."""
    return _ADDRESS.sub(lambda found: _redact_address(found[0]), text)


def _redact_address(address: str) -> str:
    if REGISTERED_MODEL.fullmatch(address):  # NAME@ALIAS, neither a user nor a password
        return address
    scheme, separator, rest = address.partition("://")
    if not separator or not re.fullmatch(r"[\w+.-]+", scheme):  # `name:pass://word@host` has none
        return shown_address(address)
    if scheme.partition("+")[0] in ("sqlite", "file") and rest.startswith("/"):
        return address.partition("?")[0]  # a path, without host and user
    place, *query = re.split(r"[?#]", rest, maxsplit=1)
    # Up to the last @, because a password may contain one.
    _, user, place = place.rpartition("@")
    in_query = "@" in "".join(query)
    # With an unescaped `/`, `?` or `#` in the password, the address cannot be parsed reliably.
    readable = _HOST.match(place) and (not in_query or ("/" in place and not user and ":" not in place))
    return f"{scheme}://{place if readable else '(hidden)'}"
