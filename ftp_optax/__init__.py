"""Robust fine-tuning for JAX: Fast Trainable Projection as an optax transformation."""

from ftp_optax._anchored import AnchorState
from ftp_optax._axes import LeafAxes, flax_axes, torch_axes
from ftp_optax._checkpoint import drop_anchor, restore_anchor
from ftp_optax._digrap import DiGraPState, digrap
from ftp_optax._ftp import FTPState, ftp, with_ftp
from ftp_optax._inspect import LeafSummary, anchor_drift, radii, summary
from ftp_optax._l2_sp import l2_sp
from ftp_optax._mars import mars_pgm, mars_sp
from ftp_optax._reset import reset_anchor
from ftp_optax._spd import spd, with_spd
from ftp_optax._tpgm import TPGM, TPGMState, tpgm
from ftp_optax._wise import wise

__all__ = [
    "TPGM",
    "AnchorState",
    "DiGraPState",
    "FTPState",
    "LeafAxes",
    "LeafSummary",
    "TPGMState",
    "anchor_drift",
    "digrap",
    "drop_anchor",
    "flax_axes",
    "ftp",
    "l2_sp",
    "mars_pgm",
    "mars_sp",
    "radii",
    "reset_anchor",
    "restore_anchor",
    "spd",
    "summary",
    "torch_axes",
    "tpgm",
    "wise",
    "with_ftp",
    "with_spd",
]

__version__ = "0.1.0"
