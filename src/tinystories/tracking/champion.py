"""MLflow's registry: a version for each trained model, and the alias `champion` for the best of them.

The alias moves only to a version with fewer bits per byte on the same validation stories. Publishers need no common
lock: each says that it has won before it moves the alias, and afterwards looks whether another said so meanwhile. So
the last to move it knows all the others, and the best of them keeps it, on a server as in a file.
"""

import json
import re
from typing import Any, NamedTuple

from tinystories.tracking.mlflow_models import WEIGHTS_TAG

ALIAS = "champion"
VALIDATION_TAG = "pipeline.validation_sha256"
BITS_TAG = "pipeline.bits_per_byte"
WON_TAG = "pipeline.won"  # set before the alias moves
CONTEST_TAG = "pipeline.contest"  # what came of it, set last


class Entry(NamedTuple):
    """A model for the registry, and its bits per byte on the validation stories of that sha256."""

    model_id: str
    run_id: str
    weights_sha256: str
    validation_sha256: str
    bits_per_byte: float


def registered_name(experiment: str) -> str:
    """The registered model of an experiment has its name, without what MLflow or its queries take for something else.

    So experiments that share a store do not compete.
    """
    return re.sub(r"[/:'\"%\\`]", "-", experiment)


def register(client: Any, name: str, entry: Entry) -> tuple[str, str]:
    """Register the model, unless its weights are, and let it compete. Returns the version, and what came of it.

    A version competes once: where the alias is afterwards is the user's choice.
    """
    version = _find(client, name, entry) or _create(client, name, entry)
    said = version.tags.get(CONTEST_TAG)
    if said is None or _champion(client, name) is None:
        said = _compete(client, name, version)
        client.update_model_version(name, version.version, description=said)
        client.set_model_version_tag(name, version.version, CONTEST_TAG, said)
    return str(version.version), said


def _versions(client: Any, name: str) -> list[Any]:
    return list(client.search_model_versions(f"name = '{name}'"))


def _find(client: Any, name: str, entry: Entry) -> Any:
    """The oldest version with these weights that was measured on these stories, or None."""
    wanted = {WEIGHTS_TAG: entry.weights_sha256, VALIDATION_TAG: entry.validation_sha256}
    same = [version for version in _versions(client, name) if wanted.items() <= version.tags.items()]
    return min(same, key=_number, default=None)


def _create(client: Any, name: str, entry: Entry) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=f"Stories. {ALIAS}: fewest bits per byte in validation.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {
        WEIGHTS_TAG: entry.weights_sha256,
        VALIDATION_TAG: entry.validation_sha256,
        BITS_TAG: repr(entry.bits_per_byte),
    }
    # The place itself, because MLflow looks for the model of an address models:/ID in its global store.
    place = client.get_logged_model(entry.model_id).artifact_location
    made = client.create_model_version(name, place, run_id=entry.run_id, tags=tags, model_id=entry.model_id)
    version = _find(client, name, entry) or made
    if version.version != made.version:  # another process was faster
        client.delete_model_version(name, made.version)
    else:  # as MLflow's own `register_model` does it: the model's page shows its version then
        shown = json.dumps([{"name": name, "version": version.version}])
        client.set_logged_model_tags(entry.model_id, {"mlflow.modelVersions": shown})
    return version


def _champion(client: Any, name: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, ALIAS)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _compete(client: Any, name: str, version: Any) -> str:
    """Move the alias to the version if it is better. Returns what came of it, in a sentence."""
    settled = {other.version for other in _versions(client, name) if CONTEST_TAG in other.tags}
    champion = _champion(client, name)
    mine = f"{_bits(version):.4f} bits per byte"
    if champion is None or champion.version == version.version:
        said = f"{ALIAS}, with {mine}: there was none before"
    elif champion.tags.get(VALIDATION_TAG) != version.tags[VALIDATION_TAG]:
        return f"no contest: {ALIAS} is version {champion.version}, measured on other validation stories, and stays"
    elif _bits(version) < _bits(champion):
        said = f"{ALIAS}, with {mine}: {_difference(champion, version)} fewer than version {champion.version}"
    else:
        more = _difference(version, champion)
        return f"{mine}, {more} more than version {champion.version}, which stays {ALIAS}"
    client.set_model_version_tag(name, version.version, WON_TAG, "true")
    best = version
    while True:
        client.set_registered_model_alias(name, ALIAS, best.version)
        rivals = [
            other
            for other in _versions(client, name)
            if WON_TAG in other.tags
            and other.version not in settled
            and other.tags.get(VALIDATION_TAG) == version.tags[VALIDATION_TAG]
        ]
        best = min(rivals, key=lambda other: (_bits(other), _number(other)))
        champion = _champion(client, name)
        if champion is not None and champion.version == best.version:
            break
    if best.version != version.version:
        return f"{mine}, {_difference(version, best)} more than version {best.version}, {ALIAS} at the same moment"
    return said


def _bits(version: Any) -> float:
    return float(version.tags[BITS_TAG])


def _difference(more: Any, fewer: Any) -> str:
    """By how many bits per byte, and what share that is."""
    difference = _bits(more) - _bits(fewer)
    return f"{difference:.4f} ({difference / _bits(more):.2%})"


def _number(version: Any) -> int:
    return int(version.version)
