"""Files that are whole or not there, folders that one process has, and checksums."""

import contextlib
import datetime
import fcntl
import hashlib
import json
import math
import os
import pathlib
import platform
from collections.abc import Iterator, Mapping
from typing import Any

LOCK = ".lock"


class RecordError(ValueError):
    """The folder holds something that this run must not touch or continue."""


# ---- JSON ----------------------------------------------------------------------------


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
    text = json.dumps(jsonable(content), allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file at once or not at all; it is on the disk when this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object; raises a `RecordError` if it does not."""
    return parsed(bytes_of(path), str(path))


def bytes_of(path: pathlib.Path) -> bytes:
    """What a file holds; raises a `RecordError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error


def parsed(text: bytes, place: str) -> dict[str, Any]:
    """The JSON object that a text is; raises a `RecordError` that begins `place`."""

    def no_number(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON")

    try:
        value = json.loads(text, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{place}: cannot be read as JSON: {error}.") from error
    if not isinstance(value, dict):
        raise RecordError(f"{place}: expected a JSON object, got {value!r:.40}.")
    return value


@contextlib.contextmanager
def saving(path: pathlib.Path) -> Iterator[None]:
    """Raises an `OSError` where tensorstore, which writes arrays, raises another."""
    try:
        yield
    except ValueError as error:
        why = str(error).rpartition(": ")[2].strip()
        raise OSError(f"{path} cannot be written: {why}") from error


def in_words(error: OSError) -> str:
    """What the system refuses, and where."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}."


# ---- Checksums -----------------------------------------------------------------------


def checksum(path: pathlib.Path) -> str:
    """Of a file, or of all files in and below a folder and their names."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) or [path]
    for file in files:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").digest()
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + content)
    return digest.hexdigest()


# ---- One process a folder ------------------------------------------------------------


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other processes out of a folder, which is made if it is missing.

    The system forgets the lock with the process, however that ends.

    Raises:
      RecordError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RecordError(
                f"{folder} is in use by {file.read() or 'another process'}. Wait for"
                " it, or use another --out."
            ) from None
        file.truncate(0)
        now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        file.write(f"process {os.getpid()} on {platform.node()} since {now}")
        file.flush()
        yield
