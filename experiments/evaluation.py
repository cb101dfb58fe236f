"""A model on every domain: the ID test set, the OOD sets, and corrupted ID images.

And how it came there: mixtures with the start, drifts of leaves, and their radii.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.configs.base import Config
from experiments.data.batches import Corruption, Sizes, evaluation_batches
from experiments.data.sources import Source
from experiments.methods import Model, Params, holding, leaf_path, mixed
from experiments.step import Placement, only_of, predict
from experiments.tasks.task import Metric, Task
from ftp_optax import FTPState, TPGMState, leaf_axes, radii, summary

Named = dict[str, jax.Array]  # path of a leaf -> float32 scalar

# ---- Domains -----------------------------------------------------------------------


class Domain(NamedTuple):
    """A data set that a model is tested on.

    Attributes:
      group: "id", "ood" or "corruption".
      source: where the images come from.
      corruption: of the images, or `None`.
      allowed: for each class whether it may be answered; `None`: any. That of the
        classes that occur in the source only, as is usual for ImageNet-A and -R, which
        have 200 of 1000, gives much higher figures.
    """

    group: str
    source: Source
    corruption: Corruption | None = None
    allowed: tuple[bool, ...] | None = None


def domains(tests: Mapping[str, Source], looked: Config) -> dict[str, Domain]:
    """The test sets by name, then `<id name>/<corruption>/<severity>`.

    Args:
      tests: by name.
      looked: the group `evaluation` of the configuration.
    """
    result = {}
    for name, source in tests.items():
        allowed = source.occurring if name in looked.own_classes else None
        group = "id" if name == looked.id else "ood"
        result[name] = Domain(group, source, allowed=allowed)
    for corruption in itertools.product(looked.corruptions, looked.severities):
        name = "/".join(map(str, (looked.id, *corruption)))
        result[name] = Domain("corruption", tests[looked.id], corruption)
    return result


# ---- Figures -----------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames=("task", "graphdef"))
def _tally(
    task: Task,
    graphdef: nnx.GraphDef,
    params: Params,
    statistics: Params,
    batch: dict[str, jax.Array],
    allowed: jax.Array | None,
) -> Any:
    outputs = predict(graphdef, params, statistics, batch["image"])
    outputs = only_of(outputs, allowed)
    return task.tally(outputs, batch["target"], batch["mask"])


def _sum(tallies: Sequence[Any]) -> Any:
    """The tally of all batches, float64: exact counts, however many pixels."""
    added = lambda *xs: np.sum(xs, axis=0, dtype=np.float64)
    return jax.tree.map(added, *tallies)


class Evaluator(NamedTuple):
    """What measures any parameters of one model.

    Attributes:
      task: what is predicted.
      graphdef: of the model.
      sizes: of images, batches and test sets.
      placement: where arrays live.
      validation: the in-distribution set that selects.
      domains: the test sets by name.
    """

    task: Task
    graphdef: nnx.GraphDef
    sizes: Sizes
    placement: Placement
    validation: Source
    domains: Mapping[str, Domain]

    def measure(self, model: Model, domain: Domain) -> dict[str, float]:
        """The task's figures on one domain."""
        batches = evaluation_batches(domain.source, self.sizes, domain.corruption)
        allowed = domain.allowed and self.placement.replicated(np.array(domain.allowed))
        tallies = [
            _tally(
                self.task, self.graphdef, *model, self.placement.batch(batch), allowed
            )
            for batch in batches
        ]
        return self.task.figures(_sum(jax.device_get(tallies)))

    def validate(self, model: Model) -> float:
        """The headline metric on all images of the ID validation set."""
        whole = self._replace(sizes=self.sizes._replace(limit=None))
        figures = whole.measure(model, Domain("id", self.validation))
        return figures[self.task.metric.name]

    def figures(self, model: Model) -> dict[str, Any]:
        """What a model can do on validation and in every domain, for a record."""
        everywhere = {
            name: {"group": test.group, **self.measure(model, test)}
            for name, test in self.domains.items()
        }
        return {
            "id_val": self.validate(model),
            "evaluation": everywhere,
            "summary": summarise(everywhere, self.task.metric),
        }

    def wise_curve(
        self, start: Model, trained: Model, alphas: Iterable[float]
    ) -> dict[str, list[float | None]]:
        """Mixtures with the start, `alphas` of what was trained, on ID and the shift.

        Corruptions are left out unless they are the only shift there is.
        """
        groups = {test.group for test in self.domains.values()}
        shifted = "ood" if "ood" in groups else "corruption"
        tests = {k: d for k, d in self.domains.items() if d.group in ("id", shifted)}
        few = self._replace(domains=tests)
        curve = {"alpha": [], "id_val": [], "id": [], shifted: []}
        for alpha in alphas:
            model = self.placement.replicated(mixed(start, trained, alpha))
            found = few.figures(model)
            means = found["summary"]
            values = (alpha, found["id_val"], means["id"], means[shifted])
            for name, value in zip(curve, values, strict=True):
                curve[name].append(value)
        return curve


def summarise(
    evaluation: Mapping[str, Mapping[str, Any]], metric: Metric
) -> dict[str, float | None]:
    """Mean of the headline metric over each group, and what shifts leave of ID.

    Returns:
      `id`, `ood`, `corruption`: means over the group's domains, `None` without any;
      `relative_robustness`: `ood / id`, or `corruption / id` of a data set whose only
      shift is corruption, or the inverse where less is better; `None` if either is
      missing or ID is 0.
    """
    means: dict[str, float | None] = {}
    for group in ("id", "ood", "corruption"):
        values = [d[metric.name] for d in evaluation.values() if d["group"] == group]
        means[group] = float(np.mean(values)) if values else None
    kept = metric.kept(means[shift(means)], means["id"])
    return means | {"relative_robustness": kept}


def shift(summary: Mapping[str, float | None]) -> str:
    """The group that robustness is read off: "ood", or without it "corruption"."""
    return "ood" if summary["ood"] is not None else "corruption"


# ---- Drifts and radii --------------------------------------------------------------


@jax.jit
def row_norms(tree: Params) -> Named:
    """The largest L1 norm of a row of each leaf, rows being those of `ftp_optax`."""
    leaves = {leaf_path(path): x for path, x in jax.tree.leaves_with_path(tree)}
    spread: Any = leaf_axes(tree)  # its axes are tuples
    largest = {}
    for path, (rows, layers) in spread.items():
        kept = {*rows, *layers}
        within = tuple(axis for axis in range(leaves[path].ndim) if axis not in kept)
        largest[path] = jnp.max(jnp.sum(jnp.abs(leaves[path]), within))
    return largest


@jax.jit
def observe(start: Params, params: Params, method: Any) -> dict[str, Named]:
    """Drift of every leaf, and what its radius does where the method has radii.

    Args:
      start: the pre-trained params.
      params: the same now.
      method: the method's state.

    Returns:
      `drift`: the largest L1 norm of a row of the change; `radius`: the bound on it;
      `bound`: the share of rows that the last step had to shorten, in [0, 1]. The last
      two are empty for methods that learn no radius, and lack the leaves left alone.
    """
    seen: dict[str, Named] = {
        "drift": row_norms(optax.tree.sub(params, start)),
        "radius": {},
        "bound": {},
    }
    if any(isinstance(part, FTPState) for part in holding(method)):
        leaves = summary(method, params)
        seen["radius"] = {k: leaf.radius for k, leaf in leaves.items()}
        seen["bound"] = {k: leaf.bound for k, leaf in leaves.items()}
    elif any(isinstance(part, TPGMState) for part in holding(method)):
        seen["radius"] = radii(method, params)
    return seen


def leaves(
    start: Params, layers: Iterable[str], seen: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Drift, radius, share of bound rows and pre-trained norm of each leaf."""
    norms = jax.device_get(row_norms(start))
    return {
        path: {
            "drift": seen["drift"][path],
            "radius": seen["radius"].get(path),
            "bound": seen["bound"].get(path),
            "norm": norms[path],
        }
        for path in layers
    }
