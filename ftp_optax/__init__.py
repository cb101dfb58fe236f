"""Robust fine-tuning for JAX: Fast Trainable Projection as an optax transformation."""

from ftp_optax._anchor import AnchorState
from ftp_optax._axes import LeafAxes
from ftp_optax._conventions import flax_axes, torch_axes
from ftp_optax._digrap import DiGraPState, digrap
from ftp_optax._ftp import FTPState, ftp, with_ftp
from ftp_optax._inspect import LeafSummary, radii, summary
from ftp_optax._l2_sp import l2_sp
from ftp_optax._leaves import leaf_axes
from ftp_optax._mars import mars_pgm, mars_sp
from ftp_optax._spd import spd, with_spd
from ftp_optax._standing import anchor_drift, check_anchor, reset_anchor
from ftp_optax._tpgm import TPGM, TPGMState, tpgm

__all__ = [
    "TPGM",
    "AnchorState",
    "DiGraPState",
    "FTPState",
    "LeafAxes",
    "LeafSummary",
    "TPGMState",
    "anchor_drift",
    "check_anchor",
    "digrap",
    "flax_axes",
    "ftp",
    "l2_sp",
    "leaf_axes",
    "mars_pgm",
    "mars_sp",
    "radii",
    "reset_anchor",
    "spd",
    "summary",
    "torch_axes",
    "tpgm",
    "with_ftp",
    "with_spd",
]

__version__ = "0.1.0"
