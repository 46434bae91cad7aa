"""The types of single values in `params.yaml`: what each may be, and what is said where it is not."""

import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from tinystories.common.mlflow_limits import MAX_EXPERIMENT_NAME
from tinystories.common.paths import CHECKPOINT, PARENTS, TOKENIZER
from tinystories.common.urls import REGISTERED_MODEL, is_address, may_hold_credentials, store_problem

MAX_BATCH = 1_000_000


def _one_line(text: str) -> str:
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]", text):
        raise ValueError("should be one line, without control characters")
    return text


def not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("should not be empty")
    return text


def _mlflow_takes_it(text: str) -> str:
    if len(text) > MAX_EXPERIMENT_NAME:
        raise ValueError(f"has {len(text):,} characters and should have at most {MAX_EXPERIMENT_NAME}")
    return text


def _is_store(text: str) -> str:
    if problem := store_problem(text):
        raise ValueError(problem)
    return text


def no_credentials(alternative: str) -> AfterValidator:
    """Refuse an address that may hold a secret: params.yaml is in git, and DVC copies its values into dvc.lock."""

    def check(text: str) -> str:
        if may_hold_credentials(text):
            raise ValueError(
                f"should have no user, password or query in it, because they would reach git; {alternative}"
            )
        return text

    return AfterValidator(check)


def _is_parent(text: str) -> str:
    if not text or REGISTERED_MODEL.fullmatch(text):
        return text
    if is_address(text) or may_hold_credentials(text):
        raise ValueError("should be empty, models:/NAME@ALIAS, models:/NAME/VERSION, or a checkpoint directory")
    here = Path.cwd()
    inside = Path(os.path.normpath(here / text))
    if any(inside.is_relative_to(here / output) for output in (CHECKPOINT.parent, TOKENIZER.parent)):
        raise ValueError(
            f"is among the outputs of the pipeline, which this run replaces; run: cp -r {shlex.quote(text)} {PARENTS}/ "
            f"and give train.init_from={PARENTS / inside.name}"
        )
    return text


def _auto_or_count(value: Any) -> Any:
    if value != "auto" and not (type(value) is int and 1 <= value <= MAX_BATCH):
        raise ValueError(f"should be auto or a whole number from 1 to {MAX_BATCH:,}")
    return value


Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Count = Annotated[int, Field(ge=1, le=2**40)]
BatchSize = Annotated[int, Field(ge=1, le=MAX_BATCH)]
AutoOrCount = Annotated[int | Literal["auto"], PlainValidator(_auto_or_count)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=10)]
SingleLine = Annotated[str, AfterValidator(_one_line)]
Prompt = Annotated[SingleLine, AfterValidator(not_empty)]
Experiment = Annotated[SingleLine, AfterValidator(not_empty), AfterValidator(_mlflow_takes_it)]
Stories = Annotated[SingleLine, no_credentials("download the file (dvc import-url, curl), and give its path")]
TrackingUri = Annotated[
    SingleLine, no_credentials("the variable MLFLOW_TRACKING_URI may have them"), AfterValidator(_is_store)
]
Parent = Annotated[
    SingleLine, AfterValidator(_is_parent), BeforeValidator(lambda value: "" if value is None else value)
]
