"""Read params.yaml, the only code that does, and describe a mistake in it in one line."""

import difflib
import reprlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tinystories.common.errors import UserError, shorten
from tinystories.common.params import Params
from tinystories.common.paths import PARAMS
from tinystories.common.strict_yaml import AmbiguousNumber, read_yaml
from tinystories.common.urls import may_hold_credentials


def load_params(path: Path = PARAMS) -> Params:
    """Read and check the parameters.

    Errors: UserError, one line with the key, the value found and what would be right.
    """
    values = read_yaml(path)
    try:
        return Params.from_written(values)
    except ValidationError as error:
        # A misspelt key is both unknown and missing; "did you mean" helps more.
        problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{path}: {_validation_error(problems[0])}{more}") from None


def _validation_error(problem: ErrorDetails) -> str:
    """Describe one of pydantic's findings in one line."""
    key = shorten(".".join(map(str, problem["loc"])))
    value, kind, context = problem["input"], problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{key} is not a known key; {_known_keys(problem['loc'])}"
    if kind == "missing":
        return f"{key} is missing; git's version of params.yaml shows every key with its meaning"
    if kind == "value_error":
        reason = str(context["error"])
        # A check of a whole section names its keys itself.
        return reason if isinstance(value, dict | BaseModel) else f"{key} is {_shown(value)}; it {reason}"
    if isinstance(value, AmbiguousNumber):
        unambiguous = f"'{value.text}', in quotes" if kind == "string_type" else " or ".join(value.numbers)
        readings = shorten(" or ".join(value.readings))
        return f"{key} is {shorten(value.text)}, which YAML takes for {readings}; write {shorten(unambiguous)}"
    expected = {
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "bool_type": "true or false",
        "finite_number": "a finite number",
        "string_type": "text",
        "tuple_type": "a list",
        "model_type": "a section with keys of its own",
        "literal_error": f"one of {context.get('expected')}",
        "greater_than_equal": f"at least {context.get('ge')}",
        "greater_than": f"greater than {context.get('gt')}",
        "less_than_equal": f"at most {context.get('le')}",
        "too_long": f"at most {context.get('max_length')} entries long",
    }.get(kind)
    if expected is None:
        return f"{key} is {_shown(value)}: {problem['msg']}"
    is_quoted_number = kind in ("int_type", "float_type") and isinstance(value, str) and value[-1:].isdigit()
    return f"{key} is {_shown(value)}; it should be {expected}{', without quotes' if is_quoted_number else ''}"


def _known_keys(location: tuple[int | str, ...]) -> str:
    """Suggest the key that was meant at `location`, or list those of its section."""
    *sections, key = location
    section: Any = Params
    for name in sections:
        section = section.model_fields[name].annotation
    near = difflib.get_close_matches(str(key), section.model_fields, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(section.model_fields)}"


class _Repr(reprlib.Repr):
    """A repr that is cut, because a few nested lists can be very long, and that shows no credentials."""

    def repr_str(self, x: str, level: int) -> str:
        if may_hold_credentials(x):
            return "an address (not shown)"
        return repr(x) if level == self.maxlevel else super().repr_str(x, level)


def _shown(value: Any) -> str:
    """The value as YAML has it, cut to a readable length."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    return shorten(_Repr().repr(value) if isinstance(value, str | list | dict | set) else str(value))
