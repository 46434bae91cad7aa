"""YAML as DVC reads it, less all that another reader would read differently.

DVC reads version 1.2, PyYAML version 1.1, where `no` is false, `0200` is 128, `2:08` too, and `1e-3` is text. Here
words and numbers are those of 1.2, so that DVC never sees another value than the program; and a number that is not
written plainly is handed on as `AmbiguousNumber`, which no schema takes.
"""

import math
import re
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tinystories.common.errors import UserError, shorten

LARGEST_FILE = 100_000  # bytes; a page or two, and what is read in a second

# What YAML 1.2, as DVC has it, takes for a number; and what everybody does.
_NUMBER = re.compile(
    r"[-+]?0b[01_]+|[-+]?0x[0-9a-fA-F_]+|[-+]?0o?[0-7_]+|[-+]?[0-9_]+"
    r"|[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9_]+([eE][-+][0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_PLAIN = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*([eE][-+][0-9]+)?)?|\.[0-9]+|[-+]?\.inf|\.nan")


@dataclass(frozen=True)
class AmbiguousNumber:
    """A number that is not written plainly, and what readers of YAML take it for: some for `text`, some for numbers."""

    text: str
    readings: tuple[str, ...]

    @property
    def numbers(self) -> tuple[str, ...]:
        """The readings that are numbers, each written plainly."""
        return tuple(reading for reading in self.readings if reading != "text")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping: no tags, directives, anchors or aliases, no key twice.

    Errors: UserError, one line with the place in the file, what was found there and what would be right.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes; a parameter file has less than {LARGEST_FILE:,}")
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
        raise UserError(f"{path}: {_problem(error)}") from None
    if not isinstance(values, dict):
        found = "nothing" if values is None else f"a {type(values).__name__}"
        raise UserError(f"{path}: found {found}; expected sections, each with its keys and values")
    return values


class _Loader(yaml.SafeLoader):
    """Mappings have text as keys, each once; words and numbers are those of YAML 1.2."""

    def fetch_directive(self) -> None:
        raise _no_use("a line that begins with %", "a directive", self.get_mark())

    def fetch_tag(self) -> None:
        raise _no_use("what begins with !", "a tag", self.get_mark())

    def fetch_anchor(self) -> None:
        raise _no_use("what begins with &", "an anchor", self.get_mark())

    def fetch_alias(self) -> None:
        raise _no_use("what begins with *", "an alias", self.get_mark())

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode()  # "\\ud800" is half a character, which nothing could print or save
        except ValueError as error:  # also of a date or a number that cannot be: say where
            raise _refusal(str(error), node.start_mark) from None
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                shown = key.text if isinstance(key, AmbiguousNumber) else reprlib.repr(key)
                raise _refusal(f"the key {shorten(shown)} should be text", key_node.start_mark)
            if key in seen:
                raise _refusal(f"the key '{shorten(key)}' stands twice in one section", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float | AmbiguousNumber:
        text = node.value
        value = _number(text)
        # DVC writes a very small or large number as Python does, `1e-05`: without a point, and without a doubt.
        finite = isinstance(value, int) or math.isfinite(value)  # what is not, a schema names better
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
    """What YAML 1.2 takes the text for. Errors: ValueError."""
    bare = text.replace("_", "").lower()
    if re.match(r"[-+]?0[box]", bare):
        return int(bare, 0)
    return int(bare) if re.fullmatch(r"[-+]?[0-9]+", bare) else float(re.sub(r"\.(inf|nan)", r"\1", bare))


def _refusal(problem: str, mark: yaml.Mark) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def _no_use(what: str, name: str, mark: yaml.Mark) -> yaml.constructor.ConstructorError:
    # Readers differ in where an anchor's name ends, and an alias can stand for a billion entries.
    return _refusal(f"{what} is {name} to YAML, which has no use here; put text in quotes", mark)


def _problem(error: Exception) -> str:
    place, problem = "", str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context or "not YAML"
    return place + shorten(problem, 200)
