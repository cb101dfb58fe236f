"""The ways to fine-tune; a new one is one entry of `METHODS`.

A method receives the base optimizer, its own strength, and what is held near what, and
returns a `Rule`: how the parameters and the method's state change when a gradient
arrives. Methods are listed and drawn in the order of the entries.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import optax

from ftp_optax import (
    AnchorState,
    FTPState,
    TPGMState,
    l2_sp,
    mars_pgm,
    mars_sp,
    tpgm,
    with_ftp,
    with_spd,
)

Params = Any  # nested dicts of float32 arrays
Model = tuple[Params, Params]  # its parameters, and the statistics of its batch norms
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


class Held(NamedTuple):
    """Which leaves a method holds, and near what; the methods' arguments of that name.

    Attributes:
      exclude: regular expressions, searched in the paths of leaves, of those that are
        not held, such as a new head's, which has no pre-trained value.
      anchor: what the others are held near; `None`: their values at the start; a
        number: that, such as 0 for a low-rank adapter.
    """

    exclude: tuple[str, ...] = ()
    anchor: float | None = None


class Colour(NamedTuple):
    """On a light and on a dark ground, and a matplotlib marker."""

    light: str
    dark: str
    marker: str


class Strength(NamedTuple):
    """The one number that a method adds to the learning rate."""

    name: str
    default: float
    highest: float = math.inf
    but: float | None = None  # in [0, highest]


class Method(NamedTuple):
    """One entry of the registry.

    Attributes:
      label: its name in tables and plots.
      rule: (base optimizer, strength, what is held) -> `Rule`.
      colour: in plots, and a marker that says it again.
      strength: what it tunes beside the learning rate, if anything.
      trains: regular expression of the leaves that train; the others stand still.
      probes: no gradient steps: the head is fitted to the trunk's cached features.
      probe_first: starts from a probed head, whatever the configuration says.
      needs_held_out: its step evaluates the loss on held-out batches.
      mixes: after training, the weights are mixed with the pre-trained ones.
      radius_rate: that of the optimizer that trains its radii, if it has any and the
        rate is not its strength.
    """

    label: str
    rule: Callable[[optax.GradientTransformation, Number, Held], Rule]
    colour: Colour
    strength: Strength | None = None
    trains: str = ""
    probes: bool = False
    probe_first: bool = False
    needs_held_out: bool = False
    mixes: bool = False
    radius_rate: float | None = None


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
    optimizer: optax.GradientTransformation, strength: Number, held: Held
) -> Rule:
    """The base optimizer and nothing else."""
    del strength, held
    return transformation(optimizer)


def ftp(
    label: str, colour: Colour, radius_rate: float = 1e-2, **options: Any
) -> Method:
    """FTP; its strength is kappa. `options` are those of `with_ftp`."""
    rule = lambda optimizer, kappa, held: transformation(
        with_ftp(optimizer, kappa=kappa, **held._asdict(), **options)
    )
    strength = Strength("kappa", 1.0, highest=1.0)
    return Method(label, rule, colour, strength, radius_rate=radius_rate)


def trained_on_held_out(
    optimizer: optax.GradientTransformation, strength: Number, held: Held
) -> Rule:
    """TPGM: one step of the radii on held-out data after each step of the optimizer."""
    method = tpgm(radius_optimizer=optax.adam(strength), **held._asdict())

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


RADIUS_RATE = Strength("radius rate", 1e-2)

METHODS = {
    "fine-tune": Method("Fine-tuning", plain, Colour("#d55e00", "#ff8b45", "^")),
    "linear-probe": Method(
        "Linear probe",
        plain,
        Colour("#0072b2", "#58b2f2", "s"),
        Strength("C", 1.0, but=0.0),
        trains="^head/",
        probes=True,
    ),
    "partial": Method(
        "Partial (norms, biases, head)",
        plain,
        Colour("#6b7280", "#a9b2c0", "h"),
        trains="^head/|/(bias|scale)$",
    ),
    "lp-ft": Method(
        "LP-FT", plain, Colour("#7a4a1e", "#cda06f", "<"), probe_first=True
    ),
    "l2-sp": Method(
        "L2-SP",
        lambda optimizer, strength, held: transformation(
            optax.chain(l2_sp(strength, **held._asdict()), optimizer)
        ),
        Colour("#882255", "#d9699c", "v"),
        Strength("lambda", 1e-2),
    ),
    "mars-sp": Method(
        "MARS-SP",
        lambda optimizer, strength, held: transformation(
            optax.chain(mars_sp(strength, **held._asdict()), optimizer)
        ),
        Colour("#858512", "#cdcd5c", "D"),
        Strength("lambda", 1e-3),
    ),
    "mars-pgm": Method(
        "MARS-PGM",
        lambda optimizer, strength, held: transformation(
            optax.chain(optimizer, mars_pgm(strength, **held._asdict()))
        ),
        Colour("#6848b0", "#ab90f0", "p"),
        Strength("radius", 1.0),
    ),
    "wise-ft": Method(
        "WiSE-FT",
        plain,
        Colour("#c98500", "#f6bc42", ">"),
        Strength("alpha", 0.5, highest=1.0),
        mixes=True,
    ),
    "tpgm": Method(
        "TPGM",
        trained_on_held_out,
        Colour("#cc79a7", "#eba0cb", "X"),
        RADIUS_RATE,
        needs_held_out=True,
    ),
    "spd": Method(
        "SPD",
        lambda optimizer, strength, held: transformation(
            with_spd(optimizer, strength, **held._asdict())
        ),
        Colour("#3296d8", "#86d0fb", "P"),
        Strength("lambda", 0.5),
    ),
    "ftp": ftp("FTP", Colour("#009e73", "#2bd3a3", "o")),
    "ftp-rate": Method(
        "FTP, tuned radius rate",
        lambda optimizer, rate, held: transformation(
            with_ftp(optimizer, radius_optimizer=optax.adam(rate), **held._asdict())
        ),
        Colour("#4d7c0f", "#a3e635", "$R$"),
        RADIUS_RATE,
    ),
    # Remedies for radii that stay near their first value, never the default.
    "ftp-active": ftp(
        "FTP, active rows",
        Colour("#1b7f4d", "#7be0a8", "d"),
        hypergradient="active",
    ),
    "ftp-wide": ftp(
        "FTP, first radius 0.1",
        Colour("#45b39d", "#a3e8d8", "8"),
        initial_radius=0.1,
    ),
    "ftp-fast": ftp(
        "FTP, radius rate 0.1",
        Colour("#117a8b", "#63c7d8", "H"),
        1e-1,
        radius_optimizer=optax.adam(1e-1),
    ),
    "ftp-smooth": ftp(
        "FTP, radius momentum 0.99",
        Colour("#b03a2e", "#f1948a", "*"),
        radius_optimizer=optax.adam(1e-2, b1=0.99),
    ),
}


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


HOLDING = (FTPState, AnchorState, TPGMState)  # what holds an anchor


def holding(state: Any) -> list[Any]:
    """The parts of a method's state that hold an anchor, with all they learned."""
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, HOLDING))
    return [node for node in nodes if isinstance(node, HOLDING)]


def with_holding(state: Any, parts: Iterable[Any]) -> Any:
    """The state with these parts in place of its own."""
    parts = iter(parts)
    return jax.tree.map(
        lambda node: next(parts) if isinstance(node, HOLDING) else node,
        state,
        is_leaf=lambda node: isinstance(node, HOLDING),
    )


def leaf_path(path: Any) -> str:
    """The "/"-joined path of a leaf, as ftp_optax names it."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def mixed(start: Params, trained: Params, alpha: Number) -> Params:
    """WiSE-FT: `alpha` of the fine-tuned weights, the rest of the pre-trained ones."""
    return optax.incremental_update(trained, start, alpha)
