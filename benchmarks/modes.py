"""The optimizers that are compared; a new mode of FTP is one line of `MODES`."""

from typing import Any, NamedTuple

import optax

from benchmarks.contenders import adamw
from ftp_optax import with_ftp

PLAIN = "adamw"
EXPLICIT = "explicit"


class Mode(NamedTuple):
    """A way to run FTP.

    Attributes:
      label: in a table.
      arguments: of `with_ftp`.
      most_state: the target for its state on the device, in copies of float32 params.
    """

    label: str
    arguments: dict[str, Any]
    most_state: float | None = None


HOST = {"anchor_memory": "pinned_host"}
INT8 = {"displacement_dtype": "int8"}
MODES = {
    EXPLICIT: Mode("explicit", {}, 2.0),
    "bfloat16": Mode("bfloat16", {"displacement_dtype": "bfloat16"}, 1.5),
    "int8": Mode("int8", INT8, 1.3),
    "implicit": Mode("implicit", {"anchor": "implicit"}, 1.02),
    "host": Mode("int8, anchor on host", HOST | INT8, 0.3),
}
LABELS = {PLAIN: "AdamW"} | {name: mode.label for name, mode in MODES.items()}


def optimizer(name: str) -> optax.GradientTransformation:
    """Plain AdamW, or AdamW within FTP in that mode."""
    if name == PLAIN:
        return adamw()
    return with_ftp(adamw(), **MODES[name].arguments)
