"""A model on every domain: the ID test set, the OOD sets, and corrupted ID images."""

import functools
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from experiments.datasets.batches import evaluation_batches
from experiments.datasets.sources import Source
from experiments.methods import Params
from experiments.metrics import Tally, figures, tally
from experiments.optimization import predict
from experiments.placement import Placement
from experiments.views import View

METRIC = {"classification": "accuracy", "segmentation": "mean_iou"}  # the headline


class Domain(NamedTuple):
    """A data set as it is shown to the model.

    Attributes:
      group: "id", "ood" or "corruption".
      source: where the images come from.
      corruption: its name, or `None`.
      severity: of the corruption, 1 to 5, or `None`.
    """

    group: str
    source: Source
    corruption: str | None = None
    severity: int | None = None


def domains(
    tests: Mapping[str, Source],
    id_name: str,
    corruptions: Iterable[str] = (),
    severities: Iterable[int] = (1, 2, 3, 4, 5),
) -> dict[str, Domain]:
    """The test sets by name, then `<id name>/<corruption>/<severity>`."""
    found = {
        name: Domain("id" if name == id_name else "ood", source)
        for name, source in tests.items()
    }
    for name, severity in itertools.product(corruptions, severities):
        found[f"{id_name}/{name}/{severity}"] = Domain(
            "corruption", tests[id_name], name, severity
        )
    return found


@functools.partial(jax.jit, static_argnames="graphdef")
def _tally(
    graphdef: nnx.GraphDef, params: Params, statistics: Params, batch: dict
) -> Tally:
    logits = predict(graphdef, params, statistics, batch["image"])
    return tally(logits, batch["target"], batch["mask"])


def measure(
    graphdef: nnx.GraphDef,
    params: Params,
    statistics: Params,
    domain: Domain,
    view: View,
    placement: Placement,
) -> dict[str, float]:
    """The figures of `metrics.figures` on one domain."""
    batches = evaluation_batches(
        domain.source,
        batch_size=view.batch_size,
        image_size=view.image_size,
        resize=view.resize,
        corruption=domain.corruption,
        severity=domain.severity,
        limit=view.limit or None,
    )
    tallies = [
        _tally(graphdef, params, statistics, placement.batch(batch))
        for batch in batches
    ]
    total = jax.tree.map(lambda *xs: np.sum(xs, axis=0), *jax.device_get(tallies))
    return figures(total)


def measure_all(
    graphdef: nnx.GraphDef,
    params: Params,
    statistics: Params,
    shown: Mapping[str, Domain],
    view: View,
    placement: Placement,
) -> dict[str, dict[str, Any]]:
    """The figures on every domain, each with its `group`."""
    return {
        name: {
            "group": domain.group,
            **measure(graphdef, params, statistics, domain, view, placement),
        }
        for name, domain in shown.items()
    }


def summarise(
    evaluation: Mapping[str, Mapping[str, Any]], metric: str
) -> dict[str, float | None]:
    """Mean of the headline metric over each group, and what shifts leave of ID.

    Returns:
      `id`, `ood`, `corruption`: means over the group's domains, `None` without any;
      `relative_robustness`: `ood / id`, or `corruption / id` of a data set whose only
      shift is corruption; `None` if either is missing or ID is 0.
    """
    found: dict[str, float | None] = {}
    for group in ("id", "ood", "corruption"):
        values = [d[metric] for d in evaluation.values() if d["group"] == group]
        found[group] = float(np.mean(values)) if values else None
    id_value, shifted = found["id"], found[shift(found)]
    found["relative_robustness"] = (
        None if shifted is None or not id_value else shifted / id_value
    )
    return found


def shift(summary: Mapping[str, float | None]) -> str:
    """The group that robustness is read off: "ood", or "corruption" without OOD sets."""
    return "ood" if summary["ood"] is not None else "corruption"
