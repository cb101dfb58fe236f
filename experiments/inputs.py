"""What the paths of a configuration lead to, told by content: paths may change."""

import functools
import hashlib
import pathlib

from experiments import json_files, records
from experiments.configs.base import Config
from experiments.data.image_folder import ImageFolder, config_of

_DIGITS = 16  # of a digest


def identify(config: Config) -> dict[str, str]:
    """The weights, and the folder of images where nothing else names the data.

    What is not there is left out: a finished run does not need it any more.
    """
    found, weights = {}, config.model.weights
    if weights is not None:
        path = pathlib.Path(weights)
        path = path / records.METRICS if path.is_dir() else path
        if path.is_file():
            found["model.weights"] = _digest(path, path.stat().st_mtime_ns)
    data = config.data
    specs = (data.train, data.validation, *data.tests.values())
    ours = any(spec.startswith(f"{ImageFolder.name}:") for spec in specs)
    if ours and data.source_dir is not None:
        folder = pathlib.Path(data.source_dir).expanduser()
        if folder.is_dir():
            found["data.source_dir"] = _fingerprint(folder)
    return found


@functools.cache  # a sweep asks for every run
def _digest(path: pathlib.Path, modified: int) -> str:
    """Of the bytes of a file; `modified` tells its versions apart."""
    del modified
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


@functools.cache  # as a data set that was opened stays open
def _fingerprint(folder: pathlib.Path) -> str:
    """Of the images alone: the folder's own name may change."""
    return config_of(folder).name.rpartition("-")[-1]


def check(out: pathlib.Path, config: Config) -> None:
    """Notes them in the folder of a run, or compares them with those noted there.

    Raises:
      RecordError: a path leads to something else than when the run began.
    """
    found = identify(config)
    file = out / records.INPUTS
    noted = records.read(file) if file.exists() and records.begun(out) else {}
    for name in sorted(found.keys() & noted.keys()):
        if found[name] != noted[name]:
            raise records.RecordError(
                f"{out} was begun with another content of {name}. Use another --out, or"
                " remove the folder."
            )
    if not (out / records.METRICS).exists():
        json_files.write(file, noted | found)
