"""JSON files that are whole or not there, and what goes into them."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any


def jsonable(value: Any) -> Any:
    """Plain JSON; what is not a finite number becomes null."""
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    if hasattr(value, "tolist"):  # an array or a scalar of numpy or jax
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def write(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file at once or not at all."""
    write_text(path, json.dumps(jsonable(content), allow_nan=False) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file at once or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def read(path: pathlib.Path, refusal: type[ValueError]) -> dict[str, Any]:
    """Reads a JSON file that holds an object; raises `refusal` if it does not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refusal(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise refusal(f"{path}: expected a JSON object, got {type(content)}.")
    return content


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration as one level: `{"data.flip": True}`."""
    found = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
