"""Accuracy in every domain, and its mean over each group of domains."""

from collections.abc import Mapping

import jax
import numpy as np

from experiments.data.digits import CLEAN, HELD_OUT, KEPT
from experiments.quickstart.network import Params, logits

GROUPS = {"kept": KEPT, "held_out": HELD_OUT, "ood": KEPT + HELD_OUT}


@jax.jit
def _correct(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
    # One domain at a time: all at once would not fit into the caches.
    return jax.lax.map(
        lambda x: (logits(params, x).argmax(-1) == labels).mean(), images
    )


def accuracies(
    params: Params, domains: Mapping[str, np.ndarray], labels: np.ndarray
) -> dict[str, float]:
    """Accuracy in [0, 1] by domain, of images `(n, side, side)` with labels `(n,)`."""
    correct = _correct(params, np.stack(list(domains.values())), labels)
    return dict(zip(domains, np.asarray(correct, np.float64).tolist(), strict=True))


def group_means(accuracy: Mapping[str, float]) -> dict[str, float]:
    """In-distribution accuracy and the mean over each group of OOD domains."""
    means = {k: float(np.mean([accuracy[d] for d in v])) for k, v in GROUPS.items()}
    return {"id": accuracy[CLEAN], **means}
