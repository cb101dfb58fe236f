"""A model on every domain: the ID test set, the OOD sets, and corrupted ID images."""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.data.batches import evaluation_batches
from experiments.data.sources import Source
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
      own_classes: answer with the classes that occur in the source only, as is usual
        for ImageNet-A and -R, which have 200 of 1000. Figures are much higher.
    """

    group: str
    source: Source
    corruption: str | None = None
    severity: int | None = None
    own_classes: bool = False

    def allowed(self) -> np.ndarray:
        """`(classes,)`, bool: what may be answered."""
        every = np.ones(self.source.num_classes, bool)
        if not self.own_classes:
            return every
        return np.isin(np.arange(len(every)), self.source.labels)


def domains(
    tests: Mapping[str, Source],
    id_name: str,
    corruptions: Iterable[str] = (),
    severities: Iterable[int] = (1, 2, 3, 4, 5),
    own_classes: Iterable[str] = (),
) -> dict[str, Domain]:
    """The test sets by name, then `<id name>/<corruption>/<severity>`."""
    own = set(own_classes)
    found = {
        name: Domain(
            "id" if name == id_name else "ood", source, own_classes=name in own
        )
        for name, source in tests.items()
    }
    for name, severity in itertools.product(corruptions, severities):
        found[f"{id_name}/{name}/{severity}"] = Domain(
            "corruption", tests[id_name], name, severity
        )
    return found


@functools.partial(jax.jit, static_argnames="graphdef")
def _tally(
    graphdef: nnx.GraphDef,
    params: Params,
    statistics: Params,
    batch: dict[str, jax.Array],
    allowed: jax.Array,
) -> Tally:
    logits = predict(graphdef, params, statistics, batch["image"])
    shape = (1,) * (logits.ndim - 1) + allowed.shape
    logits = jnp.where(allowed.reshape(shape), logits, -1e9)
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
    allowed = placement.replicated(domain.allowed())
    tallies = [
        _tally(graphdef, params, statistics, placement.batch(batch), allowed)
        for batch in batches
    ]
    return figures(_sum(jax.device_get(tallies)))


def _sum(tallies: Sequence[Tally]) -> Tally:
    """The tally of all batches, float64: exact counts, however many pixels."""
    added = lambda *xs: np.sum(xs, axis=0, dtype=np.float64)
    return jax.tree.map(added, *tallies)


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
    """The group that robustness is read off: "ood", or without it "corruption"."""
    return "ood" if summary["ood"] is not None else "corruption"
