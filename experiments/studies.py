"""A study as one file: a line of what its runs share, then one line a run.

    {"schema": 1, "study": "pacs", "shared": {"model": ..., "config": {...}, ...}}
    {"stage": "tune", "run": "ftp-lr0.001-kappa1-seed0", "config": {...}, ...}

The first line holds the fields of a record, and options of its configuration, that a
run has unless its own line says otherwise. `leaves` are columns there, in the order of
`layers`. A sweep appends to the file and skips what is in it; the report reads it.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from experiments import files
from experiments.files import RecordError, jsonable
from experiments.records import flat
from experiments.schema import (
    COLUMN,
    LEAF,
    OBJECT,
    TEXTS,
    check,
    check_field,
    check_texts,
    refused,
)

SCHEMA = 1
FILE = "study.jsonl"  # in the folder of a sweep

Record = dict[str, Any]  # of a run; its `config` is one level, `{"data.flip": True}`

# Fields that runs usually share, and options of the configuration that they do not.
_SHARED = (
    *("job", "name", "model", "image_size", "metric", "layers", "versions"),
    "start_evaluation",
)
_OWN_OPTIONS = (
    *("method.name", "method.learning_rate", "method.strength"),
    *("seed", "io.trained_from"),
)
_LEFT_OUT = ("summary", "images_per_second")  # what the rest says again
_TRACED = {"tune": 8, "final": 24, "": 24}  # entries of a trace that are kept


# ---- Reading -----------------------------------------------------------------------


def read(file: pathlib.Path) -> list[Record]:
    """The records of a study, each with its `stage` and `run`.

    A last line without an end was torn by a kill; it is left out.

    Raises:
      RecordError: the file is no study, or a line is damaged or foreign.
    """
    lines = files.bytes_of(file).split(b"\n")[:-1]
    if not lines:
        return []
    shared = _header(file, lines[0])
    records: dict[tuple[str, str], Record] = {}
    for number, line in enumerate(lines[1:], 2):
        place = f"{file}:{number}"
        own = _with_options(files.parsed(line, place), place)
        record = shared | own | {"config": shared["config"] | own["config"]}
        record = _with_rows(record, place)
        check(record, place)
        key = record["stage"], record["run"]
        if key in records:
            raise RecordError(f"{place}: {key[0]} {key[1]} is there twice.")
        records[key] = record
    return [*records.values()]


def read_run(file: pathlib.Path) -> Record:
    """The record of a run of its own, as a study would hold it.

    Raises:
      RecordError: the file is damaged, or of something else.
    """
    own = {"stage": "", "run": file.absolute().parent.name}
    record = _with_options(files.read(file), str(file)) | own
    check(record, str(file))
    return thinned(record, "")


def _header(file: pathlib.Path, line: bytes) -> Record:
    """What the first line says that all runs share."""
    place = f"{file}:1"
    header = _with_options(files.parsed(line, place), place)
    shared = header.get("shared")
    if header.get("schema") != SCHEMA or not isinstance(shared, dict):
        raise RecordError(
            f"{place}: expected the first line of a study with schema {SCHEMA}, got"
            f" {header!r:.60}."
        )
    return _with_options(shared, place)


def _with_options(content: Record, place: str) -> Record:
    """With its configuration as one level."""
    check_texts(content, place, [])
    check_field(content, ["config?"], OBJECT, place, [])
    return content | {"config": flat(content.get("config") or {})}


def _with_rows(record: Record, place: str) -> Record:
    """With what each leaf has, where the file has what all leaves have."""
    columns, layers = record.get("leaves"), record.get("layers", [])
    if not (isinstance(columns, dict) and set() < columns.keys() <= {*LEAF}):
        return record  # as files were before
    check_field(layers, [], TEXTS, place, ["layers"])
    for name, column in columns.items():
        check_field(column, [], COLUMN, place, ["leaves", name])
        if len(column) != len(layers):
            words = f"{len(layers)} numbers, as there are layers"
            raise refused(place, ["leaves", name], words, column)
    row = lambda i: dict.fromkeys(LEAF) | {k: x[i] for k, x in columns.items()}
    return record | {"leaves": {name: row(i) for i, name in enumerate(layers)}}


def _with_columns(record: Record) -> Record:
    """The same the other way round; columns of nothing are left out, but drifts."""
    leaves = record["leaves"]
    if [*leaves] != record["layers"]:
        return record
    columns = {name: [leaf[name] for leaf in leaves.values()] for name in LEAF}
    empty = {k for k, v in columns.items() if all(x is None for x in v)}
    kept = {k: v for k, v in columns.items() if k not in empty - {"drift"}}
    return record | {"leaves": kept}


# ---- Writing -----------------------------------------------------------------------


def append(
    file: pathlib.Path, record: Mapping[str, Any], stage: str, run: str
) -> Record:
    """Adds a finished run to a study, which is created if it is missing.

    The line is written at once and synced. What a kill left of another is removed.

    Args:
      file: of the study.
      record: the content of the run's `metrics.json`.
      stage: "tune" or "final".
      run: its name, unique within the stage.

    Returns:
      The record as `read` will give it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"stage": stage, "run": run, **thinned(record, stage)}
    lines = []
    with file.open("a+b") as stream:
        stream.seek(0)
        known = stream.read()
        end = known.rfind(b"\n") + 1  # of the last line that is whole
        stream.truncate(end)
        if end:
            shared = _header(file, known.partition(b"\n")[0])
        else:
            config = content["config"].items()
            options = {k: v for k, v in config if k not in _OWN_OPTIONS}
            shared = {k: content[k] for k in _SHARED if k in content}
            shared["config"] = options
            name = file.stem if file.name != FILE else file.absolute().parent.name
            lines.append({"schema": SCHEMA, "study": name, "shared": shared})
        lines.append(_differences(_with_columns(content), shared))
        for line in lines:
            text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
            stream.write(f"{text}\n".encode())
        stream.flush()
        os.fsync(stream.fileno())
    return content


def _differences(record: Record, shared: Record) -> Record:
    missing = object()
    differs = lambda name, value, other: other.get(name, missing) != value
    config = {
        k: v for k, v in record["config"].items() if differs(k, v, shared["config"])
    }
    own = {k: v for k, v in record.items() if differs(k, v, shared)}
    lacking = {k: None for k in shared if k not in record}
    return lacking | own | {"config": config}


def thinned(record: Mapping[str, Any], stage: str) -> Record:
    """A record as a study keeps it: few entries of a trace, short numbers."""
    kept = {k: v for k, v in jsonable(record).items() if k not in _LEFT_OUT}
    kept["config"] = flat(kept["config"])
    kept["leaves"] = {k: _rounded(v, 4) for k, v in kept["leaves"].items()}
    if trace := kept.get("trace"):
        count = len(trace["step"])
        most = min(_TRACED[stage], count)
        places = sorted({round((i + 1) * count / most) - 1 for i in range(most)})
        thin = lambda values: _rounded([values[i] for i in places], 4)
        kept["trace"] = {
            "step": [trace["step"][i] for i in places],
            "loss": thin(trace["loss"]),
            "radius": {k: thin(v) for k, v in trace.get("radius", {}).items()},
        }
    return kept


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, Mapping):
        return {k: _rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v, digits) for v in value]
    return value if value is None else float(f"{value:.{digits}g}")
