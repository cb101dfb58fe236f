"""Batches to train on and to evaluate on."""

import dataclasses
import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import grain
import numpy as np
from absl import flags

from experiments.data.sources import Source
from experiments.data.transforms import Size, augment, centre_crop, height_width

Batch = dict[str, np.ndarray]
Corruption = tuple[str, int]  # one of `corruptions.CORRUPTIONS`, and a severity, 1 to 5

# Enough that a step never waits; more would only take memory.
_AHEAD = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)


@dataclasses.dataclass(frozen=True)
class TrainBatches:
    """See `train_batches`; `batches[i]` depends on the seed and on `i` alone."""

    source: Source
    batch_size: int
    seed: int
    change: Callable[[dict[str, Any], np.random.Generator], dict[str, Any]]

    def __len__(self) -> int:
        return 2**40  # more than anyone waits for

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        first = index * self.batch_size
        places = range(first, first + self.batch_size)
        return _stack([self.change(self.source[self._at(i)], rng) for i in places])

    def _at(self, place: int) -> int:
        """Which image comes at a place of the endless order."""
        epoch, place = divmod(place, len(self.source))
        return int(_order(len(self.source), self.seed, epoch)[place])


@functools.lru_cache(maxsize=8)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the images in an epoch; another stream than that of the crops."""
    return np.random.default_rng([seed, epoch, 1]).permutation(count)


def train_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: Size,
    seed: int,
    scale: tuple[float, float] = (0.7, 1.0),
    flip: bool = True,
    magnitude: float = 0.0,
    erasing: float = 0.0,
    workers: int = 0,
) -> grain.IterDataset[Batch]:
    """Endless batches of randomly cropped, mirrored and shuffled images.

    Every epoch has another order and other crops. Batches run on from one epoch into
    the next, so every image is seen once an epoch and all batches are full. The order
    and the crops depend on `seed` alone, not on `workers`. An iterator's place can be
    saved and restored with `grain.checkpoint.CheckpointSave` and `CheckpointRestore`,
    with the same number of workers.

    Args:
      source: what to read.
      batch_size: images in a batch.
      image_size: pixels of a side, or `(height, width)`.
      seed: of the order and the crops.
      scale: the least and the largest share of an image's area that a crop covers.
      flip: mirror half of the images.
      magnitude: of RandAugment, up to 10; 0: none. For images with a label alone.
      erasing: how often a box of an image is erased, a share; likewise.
      workers: processes that make batches; 0 makes them in a thread of this one. With
        more, the program must have an `if __name__ == "__main__"`.

    Returns:
      A dataset of `{"image": uint8 (b, h, w, 3), "label": int32 (b,)}`, or with
      `"segmentation": uint8 (b, h, w)` in place of the label.
    """
    change = functools.partial(
        augment,
        size=height_width(image_size),
        scale=scale,
        flip=flip,
        target=source.target,
        magnitude=magnitude,
        erasing=erasing,
    )
    batches = TrainBatches(source, batch_size, seed, change)
    dataset = grain.MapDataset.source(batches).to_iter_dataset(_AHEAD)
    if workers == 0:
        return dataset
    if not flags.FLAGS.is_parsed():  # a worker is started with the flags' values
        flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(num_workers=workers)
    return dataset.mp_prefetch(options, worker_init_fn=_end_with_parent)


def _end_with_parent(*_: int) -> None:
    """Ends this worker when the process that started it is gone, even if by a kill."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "grain starts workers by `multiprocessing`"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _stack(elements: Sequence[dict[str, Any]]) -> Batch:
    batch = {name: np.stack([e[name] for e in elements]) for name in elements[0]}
    if "label" in batch:
        batch["label"] = batch["label"].astype(np.int32)
    return batch


class Sizes(NamedTuple):
    """How large, and how many, the images of an evaluation are; hashable.

    Attributes:
      batch_size: images, over all devices.
      image_size: pixels, (height, width) or of a side, of the central crop.
      resize: pixels of the shorter side before the crop; `None`: as small as covers
        `image_size`.
      limit: images a data set, the same on every call, classes in proportion; `None`
        or 0: all.
    """

    batch_size: int
    image_size: Size
    resize: int | None = None
    limit: int | None = None


def evaluation_batches(
    source: Source, sizes: Sizes, corruption: Corruption | None = None
) -> Iterator[Batch]:
    """Batches of all images once, in a fixed order, cropped at the centre.

    Args:
      source: what to read.
      sizes: of batches, images and the data set; the last batch is padded with black
        images.
      corruption: applied after the crop, with its own seed for every image.

    Yields:
      `{"image": uint8 (b, h, w, 3), "label": int32 (b,), "mask": bool (b,)}`, or with
      `"segmentation": uint8 (b, h, w)` in place of the label. The mask is False where
      there is only padding.
    """
    crop = functools.partial(
        centre_crop,
        size=height_width(sizes.image_size),
        resize=sizes.resize,
        target=source.target,
    )
    chosen = subsample(source, sizes.limit)
    for first in range(0, len(chosen), sizes.batch_size):
        elements = []
        for index in map(int, chosen[first : first + sizes.batch_size]):
            element = crop(source[index])
            if corruption:
                from experiments.data.corruptions import corrupt  # few look at any

                own = np.random.SeedSequence([0, index]).generate_state(1)
                element["image"] = corrupt(element["image"], *corruption, int(own[0]))
            elements.append(element)
        yield _pad(_stack(elements), sizes.batch_size)


def subsample(source: Source, limit: int | None) -> np.ndarray:
    """Indices of `limit` images, without one of all; ascending.

    A smaller limit gives a part of a larger one.

    Images are drawn at random, and within each class spread evenly, so that all classes
    are cut in proportion.
    """
    n = len(source)
    if not limit or limit >= n:
        return np.arange(n)
    order = np.random.default_rng(0).permutation(n)
    if source.target.dense:
        return np.sort(order[:limit])
    place = np.empty(n)  # where in its class an image comes, from 0 to 1
    labels = source.labels[order]
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        place[order[members]] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(np.argsort(place, kind="stable")[:limit])


def _pad(batch: Batch, size: int) -> Batch:
    """Zeros up to `size`, and the mask that tells them."""
    count = len(batch["image"])
    padded = {
        name: np.pad(values, [(0, size - count)] + [(0, 0)] * (values.ndim - 1))
        for name, values in batch.items()
    }
    return {**padded, "mask": np.arange(size) < count}
