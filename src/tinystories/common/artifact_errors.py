"""What is said of a file between the stages that is not of its form: what pydantic found, and a remedy."""

from pydantic import ValidationError

from tinystories.common.console import escape_control
from tinystories.common.errors import shorten


def remedy(stage: str) -> str:
    return f"run the stage that writes it again (dvc repro -f -s {stage})"


def describe(error: ValidationError) -> str:
    """Describe pydantic's first finding: the key, what was found, what was expected."""
    problem = error.errors(include_url=False)[0]
    names = [part for part in problem["loc"] if isinstance(part, str)]  # without the number of a row
    key = escape_control(shorten(".".join(names)))
    context = problem.get("ctx", {})
    if problem["type"] == "missing":
        return f"{key} is missing"
    expected = {
        "int_type": "a whole number",
        "int_parsing": "a whole number",
        "int_parsing_size": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "float_parsing": "a number",
        "finite_number": "a finite number",
        "bool_type": "true or false",
        "string_type": "text",
        "dict_type": "an object",
        "model_type": "an object",
        "greater_than_equal": f"at least {context.get('ge', 0):g}",
        "less_than_equal": f"at most {context.get('le', 0):g}",
        "string_pattern_mismatch": "64 hexadecimal digits",
        "value_error": str(context.get("error")),
    }.get(problem["type"], problem["msg"])
    return f"{key} is {shorten(repr(problem['input']))}, expected {expected}"
