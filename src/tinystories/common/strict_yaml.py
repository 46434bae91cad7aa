"""Read the subset of YAML that all readers read alike.

DVC reads YAML 1.2. PyYAML reads 1.1, where `no` is false, `0200` and `2:08` are 128, and `1e-3` is text. Here words and
numbers are those of 1.2, so that DVC and the program see the same values. A number that readers disagree on becomes an
`AmbiguousNumber`, which no schema accepts.
"""

import math
import re
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tinystories.common.errors import UserError, shorten

MAX_FILE_BYTES = 100_000  # read within a second

# Numbers of YAML 1.2, as DVC reads them; and those that all readers read alike.
_NUMBER = re.compile(
    r"[-+]?0b[01_]+|[-+]?0x[0-9a-fA-F_]+|[-+]?0o?[0-7_]+|[-+]?[0-9_]+"
    r"|[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9_]+([eE][-+][0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_PLAIN = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*([eE][-+][0-9]+)?)?|\.[0-9]+|[-+]?\.inf|\.nan")


@dataclass(frozen=True)
class AmbiguousNumber:
    """A number that readers of YAML disagree on. `readings`: `text`, or the number written plainly."""

    text: str
    readings: tuple[str, ...]

    @property
    def numbers(self) -> tuple[str, ...]:
        """The readings that are numbers."""
        return tuple(reading for reading in self.readings if reading != "text")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping without tags, directives, anchors, aliases and duplicate keys.

    Errors: UserError, one line with the place in the file, what was found there and what would be right.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes; a parameter file has less than {MAX_FILE_BYTES:,}")
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file here ({Path.cwd()}); run the stage from the repository's root") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror})") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply; expected sections of keys and values") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: {_describe(error)}") from None
    if not isinstance(values, dict):
        found = "nothing" if values is None else f"a {type(values).__name__}"
        raise UserError(f"{path}: found {found}; expected sections, each with its keys and values")
    return values


class _Loader(yaml.SafeLoader):
    """Loads mappings with unique text keys, and the words and numbers of YAML 1.2."""

    def fetch_directive(self) -> None:
        raise _unsupported("a line that begins with %", "a directive", self.get_mark())

    def fetch_tag(self) -> None:
        raise _unsupported("what begins with !", "a tag", self.get_mark())

    def fetch_anchor(self) -> None:
        raise _unsupported("what begins with &", "an anchor", self.get_mark())

    def fetch_alias(self) -> None:
        raise _unsupported("what begins with *", "an alias", self.get_mark())

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode()  # a lone surrogate such as "\\ud800" can neither be printed nor saved
        except ValueError as error:  # also an impossible date or number
            raise _error(str(error), node.start_mark) from None
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                shown = key.text if isinstance(key, AmbiguousNumber) else reprlib.repr(key)
                raise _error(f"the key {shorten(shown)} should be text", key_node.start_mark)
            if key in seen:
                raise _error(f"the key '{shorten(key)}' stands twice in one section", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float | AmbiguousNumber:
        text = node.value
        value = _number(text)
        # DVC writes very small and large numbers as Python does: `1e-05`, without a point.
        finite = isinstance(value, int) or math.isfinite(value)  # the schema refuses others with a better message
        if _PLAIN.fullmatch(text.lower()) or repr(value) == text or not finite:
            return value
        try:
            old = yaml.safe_load(text)
        except ValueError:
            old = text
        readings = ("text" if isinstance(old, str) else repr(old), repr(value))
        return AmbiguousNumber(text, tuple(dict.fromkeys(readings)))


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] not in ("bool", "int", "float")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"^(?:{_NUMBER.pattern})$"), list("-+.0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _number(text: str) -> int | float:
    """Parse a number of YAML 1.2. Errors: ValueError."""
    bare = text.replace("_", "").lower()
    if re.match(r"[-+]?0[box]", bare):
        return int(bare, 0)
    return int(bare) if re.fullmatch(r"[-+]?[0-9]+", bare) else float(re.sub(r"\.(inf|nan)", r"\1", bare))


def _error(problem: str, mark: yaml.Mark) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def _unsupported(what: str, name: str, mark: yaml.Mark) -> yaml.constructor.ConstructorError:
    # Readers differ in where an anchor's name ends, and an alias can stand for a billion entries.
    return _error(f"{what} is {name} to YAML, which has no use here; put text in quotes", mark)


def _describe(error: Exception) -> str:
    place, problem = "", str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context or "not YAML"
    return place + shorten(problem, 200)
