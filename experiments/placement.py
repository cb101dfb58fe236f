"""Where arrays live: parameters on every device, batches spread over them."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec


class Placement:
    """A mesh of all devices with one axis, `data`."""

    def __init__(self):
        self.mesh = jax.make_mesh(
            (jax.device_count(),), ("data",), axis_types=(AxisType.Auto,)
        )
        self._everywhere = NamedSharding(self.mesh, PartitionSpec())
        self._spread = NamedSharding(self.mesh, PartitionSpec("data"))

    def replicated(self, tree: Any) -> Any:
        """Copies of the tree's arrays on every device, in buffers of their own."""
        return jax.tree.map(
            lambda x: jax.device_put(np.array(x), self._everywhere),
            jax.device_get(tree),
        )

    def batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """A batch of the pipeline, spread over the devices.

        Args:
          batch: arrays `(n, ...)` named `image`, `label` or `segmentation`, and `mask`
            where the batch may be filled up; `n` is a multiple of the device count.

        Returns:
          `image`; `target`, the labels, int32; and `mask`, if there is one.
        """
        labels = batch["label"] if "label" in batch else batch["segmentation"]
        placed = {"image": batch["image"], "target": np.asarray(labels, np.int32)}
        if "mask" in batch:
            placed["mask"] = batch["mask"]
        return jax.device_put(placed, self._spread)
