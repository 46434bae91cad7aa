"""Showing addresses (of data, of a tracking server) without the secrets that they may hold."""

import re

_ADDRESS = re.compile(r"[\w+.-]+://[^\s'\"<>`]+")


def is_address(text: str) -> bool:
    """Whether this is a URL, or meant as one (`https:/host`), and no path: a drive's name has one letter."""
    return re.match(r"\s*[A-Za-z][\w+.-]+:/", text) is not None


def may_hold_credentials(text: str) -> bool:
    """Whether this is an address that says more than scheme, host and path: a user, a password, a query."""
    return is_address(text) and any(sign in text for sign in "@?#")


def without_credentials(text: str) -> str:
    """The text with each address in it cut to scheme, host and path; user, password and query may be secret."""
    return _ADDRESS.sub(lambda found: _bare(found[0]), text)


def _bare(address: str) -> str:
    scheme, _, rest = address.partition("://")
    place, *query = re.split(r"[?#]", rest, maxsplit=1)
    # Up to the last @, for a password may hold one.
    place, in_query = place.rpartition("@")[2], "@" in "".join(query)
    # A password with an unescaped `/`, `?` or `#` makes an address that cannot be read with certainty.
    readable = re.match(r"(\[[\da-fA-F:.]+\]|[^:/\[\]]*)(:\d*)?(/|$)", place) and ("/" in place or not in_query)
    return f"{scheme}://{place if readable else '(hidden)'}"
