"""The folder of a run: its configuration, its record, and what may not be mixed up."""

import functools
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from experiments.configs.base import get_config
from experiments.files import (
    RecordError,
    checksum,
    jsonable,
    read,
    saving,
    write,
    write_text,
)

JOB = "experiments.train"
CONFIG = "config.json"
DIGESTS = "digests.json"  # of what paths of the configuration lead to
METRICS = "metrics.json"
CHECKPOINTS = "checkpoints"
CHECKSUMS = "checkpoints.json"
SELECTED = "selected"  # the parameters that ID validation chose
CHECKSUM = "selected.sha256"
TRAINS_FOR_OTHERS = "fine-tune"  # whose runs WiSE-FT mixes with their start


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration as one level: `{"data.flip": True}`."""
    options = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            options |= flat(value, f"{prefix}{key}.")
        else:
            options[f"{prefix}{key}"] = value
    return options


# ---- The folder of a run -----------------------------------------------------------


# What a run may be continued with after it has changed: it decides where things are
# found and how fast they come, not what the numbers are.
FREE = ("io.",)
# What a run that mixes the weights of another one may have of its own.
_FREE_TO_MIX = ("io.", "evaluation.", "name", "method.name", "method.strength")


def open_run(out: pathlib.Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Opens a run's folder, new or left by an earlier start of the same run.

    Args:
      out: the folder, which is there.
      config: the run's whole configuration, as nested dicts.

    Returns:
      The record, if the run is finished.

    Raises:
      RecordError: the folder belongs to a run of another configuration, or is no run's.
    """
    config = jsonable(config)
    file, metrics = out / CONFIG, out / METRICS
    if file.exists() and (begun(out) or not _is_ours(read(file))):
        if changed := differences(read(file), config, FREE):
            raise RecordError(
                f"{out} is a run of another configuration ({changed}). Use another"
                " --out, or remove the folder."
            )
    elif begun(out):
        raise RecordError(f"{out} is no run's folder: it has no {CONFIG}. Use another.")
    if metrics.exists():
        return read(metrics)
    write(file, config)
    return None


def begun(out: pathlib.Path) -> bool:
    """Whether a folder holds anything that a run writes once it cannot be refused."""
    return any((out / name).exists() for name in (METRICS, CHECKPOINTS, SELECTED))


def _is_ours(config: Mapping[str, Any]) -> bool:
    return {"name", "method", "data", "model"} <= config.keys()


def options(config: Mapping[str, Any], free: Sequence[str]) -> dict[str, Any]:
    """A recorded configuration as one level, without what begins as one of `free`.

    An option that is younger than the run had its default there.
    """
    every = _defaults() | flat(config)
    return {k: v for k, v in every.items() if not k.startswith(tuple(free))}


@functools.cache
def _defaults() -> dict[str, Any]:
    return flat(jsonable(get_config().to_dict()))


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], free: Sequence[str]
) -> str:
    """What differs between two configurations."""
    a, b = options(old, free), options(new, free)
    keys = sorted(k for k in {*a, *b} if a.get(k) != b.get(k))
    return ", ".join(f"{k}: {a.get(k)} there, {b.get(k)} now" for k in keys)


def check_same_training(run: pathlib.Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a finished run, whose training this configuration describes.

    Raises:
      RecordError: it was not plain fine-tuning, or not with these settings.
    """
    record = read(run / METRICS)
    if record["method"] != TRAINS_FOR_OTHERS:
        raise RecordError(
            f"io.trained_from: {run} is a run of {record['method']}; expected one of"
            f" {TRAINS_FOR_OTHERS}."
        )
    if changed := differences(record["config"], jsonable(config), _FREE_TO_MIX):
        raise RecordError(f"io.trained_from: {run} is another training ({changed}).")
    return record


def save_selected(out: pathlib.Path, params: Any, statistics: Any) -> None:
    """Saves the parameters of a finished run, in place of older ones."""
    with saving(out / SELECTED), ocp.StandardCheckpointer() as checkpointer:
        content = {"params": params, "statistics": statistics}
        checkpointer.save((out / SELECTED).absolute(), content, force=True)
    write_text(out / CHECKSUM, checksum(out / SELECTED))


def check_selected(out: pathlib.Path) -> None:
    """Raises a `RecordError` unless the parameters are as the run saved them."""
    noted = out / CHECKSUM
    if noted.exists() and noted.read_text() != checksum(out / SELECTED):
        raise RecordError(
            f"{out / SELECTED} is damaged: its checksum is not that of {noted.name}."
            " Run it again in another folder."
        )


def load_selected(out: pathlib.Path, like: tuple[Any, Any]) -> tuple[Any, Any]:
    """The parameters and statistics of a finished run, as numpy arrays.

    Raises:
      RecordError: there are none, or they are damaged, or of another model.
    """
    check_selected(out)
    return _restored(out, like)


def _restored(out: pathlib.Path, like: tuple[Any, Any]) -> tuple[Any, Any]:
    names = ("params", "statistics")
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            restored = checkpointer.restore(
                (out / SELECTED).absolute(), dict(zip(names, like, strict=True))
            )
        except (ValueError, KeyError, FileNotFoundError) as error:
            raise RecordError(
                f"{out / SELECTED} holds no parameters of this model: {error}"
            ) from error
    params, statistics = (jax.tree.map(np.array, restored[name]) for name in names)
    return params, statistics


def load_pretrained(run: pathlib.Path, like: tuple[Any, Any]) -> tuple[Any, Any]:
    """The parameters and statistics that another run selected, to start from.

    Args:
      run: the folder of a finished run.
      like: params and statistics of the model that starts.

    Returns:
      Numpy arrays. The head is that of `like` if the run's is of another shape, since
      it told other classes apart.

    Raises:
      RecordError: the folder is not that of a finished run, or of another model.
    """
    if not ((run / METRICS).is_file() and (run / SELECTED).is_dir()):
        raise RecordError(
            f"io.weights: {run} is not the folder of a finished run; it needs"
            f" {METRICS} and {SELECTED}. Give such a folder, or a file of weights."
        )
    check_selected(run)
    with ocp.StandardCheckpointer() as checkpointer:
        metadata: Any = checkpointer.metadata((run / SELECTED).absolute())
    stored = metadata.item_metadata.tree
    params, statistics = like
    here = _shapes({"params": params, "statistics": statistics})
    there = _shapes(stored)
    for path in sorted({*here, *there}):
        if here.get(path) != there.get(path) and not path.startswith("params/head/"):
            raise RecordError(
                f"io.weights: {run} is a run of another model,"
                f" {read(run / METRICS)['model']}: {path} is {there.get(path)} there,"
                f" {here.get(path)} here."
            )
    head = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), stored["params"]["head"])
    restored, statistics = _restored(run, (params | {"head": head}, statistics))
    if _shapes(restored["head"]) != _shapes(params["head"]):
        restored = restored | {"head": params["head"]}
    return restored, statistics


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    named = jax.tree.leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in named
    }


def machine() -> str:
    """The machine in words."""
    kinds = sorted({device.device_kind for device in jax.devices()})
    return (
        f"{jax.device_count()} x {', '.join(kinds)}, {os.cpu_count()} cores,"
        f" {platform.system()} {platform.machine()}"
    )
