"""Robust fine-tuning for JAX: Fast Trainable Projection as an optax transformation."""

from ftp_optax._axes import LeafAxes, flax_axes, torch_axes
from ftp_optax._ftp import FTPState, ftp, with_ftp
from ftp_optax._inspect import LeafSummary, radii, reset_anchor, summary

__all__ = [
    "FTPState",
    "LeafAxes",
    "LeafSummary",
    "flax_axes",
    "ftp",
    "radii",
    "reset_anchor",
    "summary",
    "torch_axes",
    "with_ftp",
]

__version__ = "0.1.0"
