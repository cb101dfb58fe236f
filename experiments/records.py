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
from flax import traverse_util

from experiments.configs.base import get_config
from experiments.files import (
    RecordError,
    checksum,
    jsonable,
    read,
    saving,
    write,
    write_bytes,
)

JOB = "experiments.train"
CONFIG = "config.json"
DIGESTS = "digests.json"  # of what paths of the configuration lead to
METRICS = "metrics.json"
CHECKPOINTS = "checkpoints"
CHECKSUMS = "checkpoints.json"
SELECTED = "selected"  # the parameters that ID validation chose
ANCHOR = "anchor"  # of the last step, with the radii, where it is kept
TRAINS_FOR_OTHERS = "fine-tune"  # whose runs WiSE-FT mixes with their start


# A configuration as one level: `{"data.flip": True}`.
flat = functools.partial(traverse_util.flatten_dict, sep=".")


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
    ours = {"name", "method", "data", "model"}
    if file.exists() and (begun(out) or not ours <= read(file).keys()):
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


def save(folder: pathlib.Path, content: Any) -> None:
    """Saves arrays and their checksum, in place of older ones."""
    with saving(folder), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), content, force=True)
    write_bytes(folder.with_suffix(".sha256"), checksum(folder).encode())


def load_anchor(run: pathlib.Path, like: Any) -> Any:
    """What the method of a finished run holds, as numpy arrays.

    Args:
      run: its folder.
      like: the same of the method that goes on with it.

    Raises:
      RecordError: it was not kept, or is damaged, or of another method or model.
    """
    if not (run / ANCHOR).is_dir():
        raise RecordError(
            f"method.anchor_from: {run} has kept no anchor. It needs"
            " --config.io.keep_anchor=True."
        )
    return _restored(run / ANCHOR, {"holding": like})["holding"]


def _check(folder: pathlib.Path) -> None:
    """Raises a `RecordError` unless a folder is as the run saved it."""
    noted = folder.with_suffix(".sha256")
    if noted.exists() and noted.read_text() != checksum(folder):
        raise RecordError(
            f"{folder} is damaged: its checksum is not that of {noted.name}. Run it"
            " again in another folder."
        )


def load_selected(out: pathlib.Path, like: tuple[Any, Any]) -> tuple[Any, Any]:
    """The parameters and statistics of a finished run, as numpy arrays.

    Raises:
      RecordError: there are none, or they are damaged, or of another model.
    """
    params, statistics = like
    content = {"params": params, "statistics": statistics}
    restored = _restored(out / SELECTED, content)
    return restored["params"], restored["statistics"]


def _restored(folder: pathlib.Path, like: Any) -> Any:
    _check(folder)
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            restored = checkpointer.restore(folder.absolute(), like)
        except (ValueError, KeyError, FileNotFoundError) as error:
            raise RecordError(
                f"{folder} holds no arrays of this model and method: {error}"
            ) from error
    return jax.tree.map(np.array, restored)


def load_pretrained(run: pathlib.Path, like: tuple[Any, Any]) -> tuple[Any, Any]:
    """The parameters and statistics that another run selected, to start from.

    Args:
      run: the folder of a finished run.
      like: params and statistics of the model that starts.

    Returns:
      Numpy arrays; the head is of the run's own shape.

    Raises:
      RecordError: the folder is not that of a finished run, or of another model.
    """
    if not ((run / METRICS).is_file() and (run / SELECTED).is_dir()):
        raise RecordError(
            f"io.weights: {run} is not the folder of a finished run; it needs"
            f" {METRICS} and {SELECTED}. Give such a folder,"
            " that of a save_pretrained, or a file of weights."
        )
    _check(run / SELECTED)
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
    return load_selected(run, (params | {"head": head}, statistics))


def begins_with_those_of(run: pathlib.Path, classes: Sequence[str]) -> bool:
    """Whether the first of these classes are those that a run was given."""
    known = read(run / CONFIG)["data"].get("classes", [])
    return bool(known) and [*classes[: len(known)]] == known


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
