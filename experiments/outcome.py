"""What a run has come to: its parameters, measured everywhere, as a record."""

from typing import Any, NamedTuple

import jax

from experiments import evaluation, observation
from experiments.evaluation import Domain
from experiments.log import Log
from experiments.methods import Params, mixed
from experiments.setup import Setup

_STARTS: dict[Any, dict[str, Any]] = {}  # of `start_evaluation`


class Trained(NamedTuple):
    """What training leaves: the parameters that ID validation chose, and its log."""

    params: Params
    statistics: Params
    seen: dict[str, dict[str, float]]  # of `observation.observe`, for those parameters
    log: Log | None
    diverged: bool


def measure(setup: Setup, trained: Trained) -> dict[str, Any]:
    """The record of a run: what it was, how it went, and what the model can do now."""
    shown, log = setup.domains, trained.log
    found = evaluate(setup, trained.params, trained.statistics, shown)
    record = setup.description() | {
        "status": "diverged" if trained.diverged else "finished",
        "id_val": validate(setup, trained.params, trained.statistics),
        "evaluation": found,
        "summary": evaluation.summarise(found, setup.metric),
        "leaves": leaves(setup, trained),
    }
    if log is not None:
        images = log.history["step"][-1] * setup.config.batch_size
        record |= {
            "steps": log.history["step"][-1],
            "seconds": log.seconds,
            "images_per_second": images / log.seconds,
            "selected": log.best,
            "history": log.history,
            "trace": log.trace,
        }
    if not setup.start.new:
        record["start_evaluation"] = start_evaluation(setup)
    if setup.config.wise_alphas:
        shift = evaluation.shift(record["summary"])
        record["wise_curve"] = wise_curve(setup, trained, shift)
    return record


def evaluate(
    setup: Setup, params: Params, statistics: Params, shown: dict[str, Domain]
) -> dict[str, dict[str, Any]]:
    """The figures on every domain."""
    return evaluation.measure_all(
        setup.start.graphdef, params, statistics, shown, setup.view, setup.placement
    )


def start_evaluation(setup: Setup) -> dict[str, Any]:
    """What the start can do before it is fine-tuned; measured once for many runs."""
    shown = [(name, *d[2:]) for name, d in setup.domains.items()]
    specs = [d.source.name for d in setup.domains.values()]
    key = (setup.origin, setup.view, tuple(shown), tuple(specs))
    if key not in _STARTS:
        begin = setup.start.params, setup.start.statistics
        params, statistics = setup.placement.replicated(begin)
        found = evaluate(setup, params, statistics, setup.domains)
        _STARTS[key] = {
            "id_val": validate(setup, params, statistics),
            "evaluation": found,
            "summary": evaluation.summarise(found, setup.metric),
        }
    return _STARTS[key]


def leaves(setup: Setup, trained: Trained) -> dict[str, dict[str, float | None]]:
    """Drift, radius, share of bound rows and pre-trained norm of each leaf."""
    lengths = jax.device_get(observation.norms(setup.start.params))
    return {
        path: {
            "drift": trained.seen["drift"][path],
            "radius": trained.seen["radius"].get(path),
            "bound": trained.seen["bound"].get(path),
            "norm": lengths[path],
        }
        for path in setup.start.layers
    }


def wise_curve(
    setup: Setup, trained: Trained, shift: str
) -> dict[str, list[float | None]]:
    """The mixtures of the trained weights with those of the start, on ID and `shift`.

    Corruptions are left out unless they are the only shift there is.
    """
    pretrained = setup.start.params, setup.start.statistics
    shown = {k: d for k, d in setup.domains.items() if d.group in ("id", shift)}
    curve = {"alpha": [], "id_val": [], "id": [], shift: []}
    for alpha in setup.config.wise_alphas:
        tree = mixed(pretrained, (trained.params, trained.statistics), alpha)
        params, statistics = setup.placement.replicated(tree)
        found = evaluate(setup, params, statistics, shown)
        summary = evaluation.summarise(found, setup.metric)
        values = (
            alpha,
            validate(setup, params, statistics),
            summary["id"],
            summary[shift],
        )
        for name, value in zip(curve, values, strict=True):
            curve[name].append(value)
    return curve


def validate(setup: Setup, params: Params, statistics: Params) -> float:
    """The headline metric on the whole ID validation set."""
    found = evaluation.measure(
        setup.start.graphdef,
        params,
        statistics,
        setup.validation,
        setup.view._replace(limit=0),
        setup.placement,
    )
    return found[setup.metric]
