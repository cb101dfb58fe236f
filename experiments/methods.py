"""The ways to fine-tune; a new one is one entry of `METHODS`.

A method receives the base optimizer, its own strength, and which leaves are new (and so
have no pre-trained value to be held near), and returns a `Rule`: how the parameters and
the method's state change when a gradient arrives.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from ftp_optax import l2_sp, mars_pgm, mars_sp, tpgm, with_ftp, with_spd

Params = Any  # nested dicts of float32 arrays
Exclude = tuple[str, ...]  # regular expressions, searched in the leaves' paths
Number = float | jax.Array  # may be traced
HeldOutLoss = Callable[[Params], jax.Array]


class Rule(NamedTuple):
    """What a method does with a gradient.

    Attributes:
      init: params -> state.
      step: (gradients, state, params, loss on held-out data) -> (params, state).
    """

    init: Callable[[Params], Any]
    step: Callable[[Params, Any, Params, HeldOutLoss | None], tuple[Params, Any]]


class Strength(NamedTuple):
    """The one number that a method adds to the learning rate."""

    name: str
    default: float
    highest: float = math.inf  # and the lowest is 0


class Method(NamedTuple):
    """One entry of the registry.

    Attributes:
      label: its name in tables and plots.
      rule: (base optimizer, strength, new leaves) -> `Rule`.
      strength: what it tunes beside the learning rate, if anything.
      trains: regular expression of the leaves that train; the others stand still.
      probes: no gradient steps: the head is fitted to the trunk's cached features.
      probe_first: starts from a probed head, whatever the configuration says.
      needs_held_out: its step evaluates the loss on held-out batches.
      mixes: after training, the weights are mixed with the pre-trained ones.
    """

    label: str
    rule: Callable[[optax.GradientTransformation, Number, Exclude], Rule]
    strength: Strength | None = None
    trains: str = ""
    probes: bool = False
    probe_first: bool = False
    needs_held_out: bool = False
    mixes: bool = False


def transformation(tx: optax.GradientTransformation) -> Rule:
    """Trains with an optax transformation."""
    tx = optax.with_extra_args_support(tx)

    def step(
        grads: Params, state: Any, params: Params, held_out: HeldOutLoss | None
    ) -> tuple[Params, Any]:
        del held_out
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return Rule(tx.init, step)


def plain(
    optimizer: optax.GradientTransformation, strength: Number, new: Exclude
) -> Rule:
    """The base optimizer and nothing else."""
    del strength, new
    return transformation(optimizer)


def ftp(**options: Any) -> Callable[..., Rule]:
    """FTP; its strength is kappa. `options` are those of `with_ftp`."""
    return lambda optimizer, kappa, new: transformation(
        with_ftp(optimizer, kappa=kappa, exclude=new, **options)
    )


def trained_on_held_out(
    optimizer: optax.GradientTransformation, strength: Number, new: Exclude
) -> Rule:
    """TPGM: one step of the radii on held-out data after each step of the optimizer."""
    method = tpgm(radius_optimizer=optax.adam(strength), exclude=new)

    def init(params: Params) -> Any:
        return optimizer.init(params), method.init(params)

    def step(
        grads: Params, state: Any, params: Params, held_out: HeldOutLoss | None
    ) -> tuple[Params, Any]:
        assert held_out is not None
        inner, radii = state
        updates, inner = optimizer.update(grads, inner, params)
        params = optax.apply_updates(params, updates)
        radii = method.update(radii, params, held_out)
        return method.project(params, radii), (inner, radii)

    return Rule(init, step)


KAPPA = Strength("kappa", 1.0, highest=1.0)

METHODS = {
    "fine-tune": Method("Fine-tuning", plain),
    "linear-probe": Method(
        "Linear probe", plain, Strength("C", 1.0), trains="^head/", probes=True
    ),
    "partial": Method(
        "Partial (norms, biases, head)", plain, trains="^head/|/(bias|scale)$"
    ),
    "lp-ft": Method("LP-FT", plain, probe_first=True),
    "l2-sp": Method(
        "L2-SP",
        lambda opt, s, new: transformation(optax.chain(l2_sp(s, exclude=new), opt)),
        Strength("lambda", 1e-2),
    ),
    "mars-sp": Method(
        "MARS-SP",
        lambda opt, s, new: transformation(optax.chain(mars_sp(s, exclude=new), opt)),
        Strength("lambda", 1e-3),
    ),
    "mars-pgm": Method(
        "MARS-PGM",
        lambda opt, s, new: transformation(optax.chain(opt, mars_pgm(s, exclude=new))),
        Strength("radius", 1.0),
    ),
    "wise-ft": Method(
        "WiSE-FT", plain, Strength("alpha", 0.5, highest=1.0), mixes=True
    ),
    "tpgm": Method(
        "TPGM",
        trained_on_held_out,
        Strength("radius rate", 1e-2),
        needs_held_out=True,
    ),
    "spd": Method(
        "SPD",
        lambda opt, s, new: transformation(with_spd(opt, s, exclude=new)),
        Strength("lambda", 0.5),
    ),
    "ftp": Method("FTP", ftp(), KAPPA),
    # Remedies for radii that stay near their first value, never the default.
    "ftp-active": Method("FTP, active rows", ftp(hypergradient="active"), KAPPA),
    "ftp-wide": Method("FTP, first radius 0.1", ftp(initial_radius=0.1), KAPPA),
    "ftp-fast": Method(
        "FTP, radius rate 0.1", ftp(radius_optimizer=optax.adam(1e-1)), KAPPA
    ),
    "ftp-smooth": Method(
        "FTP, radius momentum 0.99",
        ftp(radius_optimizer=optax.adam(1e-2, b1=0.99)),
        KAPPA,
    ),
}
VARIANTS = ("ftp-active", "ftp-wide", "ftp-fast", "ftp-smooth")


def only(optimizer: optax.GradientTransformation, trains: str) -> Any:
    """The optimizer on the leaves whose path matches; all others stand still."""
    if not trains:
        return optimizer
    return optax.partition(
        {True: optimizer, False: optax.set_to_zero()},
        lambda params: jax.tree.map_with_path(
            lambda path, _: bool(re.search(trains, leaf_path(path))), params
        ),
    )


def leaf_path(path: Any) -> str:
    """The "/"-joined path of a leaf, as ftp_optax names it."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def mixed(start: Params, trained: Params, alpha: Number) -> Params:
    """WiSE-FT: `alpha` of the fine-tuned weights, the rest of the pre-trained ones."""
    return optax.incremental_update(trained, start, alpha)
