"""What the numbers were measured on and with; nothing that names an owner."""

import os
import pathlib
import platform
import re
from collections.abc import Mapping
from typing import Any

import jax

from experiments.run_folder import versions


def describe() -> dict[str, Any]:
    """Processor, cores, accelerator, load and versions, ready for JSON."""
    device = jax.devices()[0]
    return {
        "processor": _processor(),
        "cores": _cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "backend": jax.default_backend(),
        "device": device.device_kind,
        "load": load(),
        "python": platform.python_version(),
        **versions(),
    }


def load() -> float | None:
    """Mean number of runnable processes over the last minute, where it is known."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def free_bytes() -> int | None:
    """Memory that arrays may still take, where it is known."""
    of_device = jax.devices()[0].memory_stats()
    if of_device:
        return of_device["bytes_limit"] - of_device["bytes_in_use"]
    info = pathlib.Path("/proc/meminfo")
    if info.exists():
        found = re.search(r"^MemAvailable: +(\d+) kB$", info.read_text(), re.MULTILINE)
        return 1024 * int(found[1]) if found else None
    return None


def in_words(machine: Mapping[str, Any]) -> str:
    """One line, for a caption."""
    if machine["backend"] == "cpu":
        where = f"{machine['processor']}, {machine['cores']} cores"
    else:
        where = f"{machine['device']} ({machine['backend']})"
    return f"{where}; jax {machine['jax']}, optax {machine['optax']}"


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE)
        if found:
            return " ".join(found[1].split())
    return platform.processor() or platform.machine()


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
