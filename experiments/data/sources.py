"""From a spec such as `pacs:photo_train` to images and labels that can be indexed."""

import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.splits import AbstractSplit

from experiments.data import DataError
from experiments.data.checked import listed
from experiments.data.examples import LABEL, MASK, Examples, Target
from experiments.data.folders import DATA_SETS, Listing, data_set, ordered, split_of


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """The examples of one split, decoded when they are indexed.

    `source[i]` is `{"image": uint8 (h, w, 3), target.name: value}`: a `"label"`, int,
    for classification, or `"segmentation"`, uint8 (h, w).

    Attributes:
      name: the spec it was opened by.
      target: what there is to predict.
      class_names: in the order of the labels, without the ignored one; () where the
        target has no classes.
      ignore_label: the label of pixels that do not count, or None.
      examples: what is indexed.
      places: those of its examples in `examples`; `None`: all.
      own_labels: their labels, `(n,)`, int32, where these are others than there.
    """

    name: str
    target: Target
    class_names: tuple[str, ...]
    ignore_label: int | None
    examples: Examples
    places: np.ndarray | None = None
    own_labels: np.ndarray | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def labels(self) -> np.ndarray:
        """`(n,)`, int32; read without decoding an image. Only for classification."""
        if self.target != LABEL:
            raise DataError(f"{self.name} has a mask for each image, not a label.")
        return self.examples.labels if self.own_labels is None else self.own_labels

    @property
    def occurring(self) -> tuple[bool, ...]:
        """Of each class, whether an image has it. Only for classification."""
        return tuple(np.isin(np.arange(self.num_classes), self.labels).tolist())

    def of_classes(self, names: Sequence[str], part: str = "") -> "Source":
        """Only the images of some classes; it shares the images that were decoded.

        Args:
          names: classes in the order of their labels; without any, as they are.
          part: such as `4:6`: of these only the labels 4 and 5 are taken, "" for all.

        Raises:
          DataError: it has no such class, or no image of these.
        """
        names = tuple(names) or self.class_names
        if unknown := sorted({*names} - {*self.class_names}):
            more = " and so on" if self.num_classes > 8 else ""
            raise DataError(
                f"data.classes: {self.name} has no {', '.join(unknown[:8])}; its"
                f" classes are {', '.join(self.class_names[:8])}{more}."
            )
        bounds = re.fullmatch(r"(\d+):(\d+)", part or f"0:{len(names)}")
        first, last = map(int, bounds.groups()) if bounds else (0, 0)
        if not first < last <= len(names):
            raise DataError(
                f"{self.name}#{part}: expected a part of the {len(names)} classes, such"
                " as #4:6."
            )
        new = {self.class_names.index(names[i]): i for i in range(first, last)}
        (places,) = np.nonzero(np.isin(self.labels, [*new]))
        if not len(places):
            raise DataError(f"{self.name}#{part} holds no images.")
        labels = np.array([new[old] for old in self.labels[places].tolist()], np.int32)
        return dataclasses.replace(
            self,
            name=f"{self.name}#{part}" if part else self.name,
            class_names=names,
            places=self._within[places],
            own_labels=labels,
        )

    @property
    def _within(self) -> np.ndarray:
        return np.arange(len(self.examples)) if self.places is None else self.places

    def __len__(self) -> int:
        return len(self.examples) if self.places is None else len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.places is None:
            return self.examples[index]
        example = self.examples[int(self.places[index])]
        if self.own_labels is None:
            return example
        return example | {LABEL.name: int(self.own_labels[index])}

    def share(self, share: float, seed: int) -> "Source":
        """The same share of every class, at least an image; of masks, of all images.

        A smaller share of the same seed is a part of a larger one.
        """
        if share == 1:
            return self
        labels = np.zeros(len(self)) if self.target.dense else self.labels
        order = np.random.default_rng(seed).permutation(len(self))
        members = [order[labels[order] == label] for label in np.unique(labels)]
        kept = [group[: max(1, round(share * len(group)))] for group in members]
        places = np.sort(np.concatenate(kept))
        own = None if self.target.dense else labels[places]
        return dataclasses.replace(self, places=self._within[places], own_labels=own)


def open_source(
    spec: str,
    data_dir: str | os.PathLike | None = None,
    source_dir: str | os.PathLike | None = None,
    targets: Sequence[Target] = (LABEL, MASK),
    most_bytes: int = 0,
) -> Source:
    """Opens a split of a data set; a folder is checked first.

    Args:
      spec: `"name:split"`, such as `pacs:photo_train`, `camvid:test`,
        `image_folder:art` or `cifar10:train[:90%]`. Splits can be sliced and added as
        in TFDS.
      data_dir: where TFDS keeps what it prepared, and which folders were checked is
        noted; by default the environment variable `TFDS_DATA_DIR`, or
        `~/tensorflow_datasets`.
      source_dir: the folder with the images of a set of this project, or its parent
        where the folder is called as the data set. It is only read.
      targets: the first of them that a set of TFDS has is what there is to predict.
      most_bytes: of images, as uint8, that are kept once they are decoded.

    Raises:
      DataError: if the spec is wrong or there is no such data; it says what to do.
    """
    name, _, split = spec.partition(":")
    if not name or not split:
        raise DataError(
            "A data set is given as name:split, such as pacs:photo_train, got "
            f"{spec!r}."
        )
    data = data_folder(data_dir)
    if name in DATA_SETS:
        return _ours(spec, listed(spec, data, source_dir)[0], most_bytes)
    return _of_tfds(spec, _built_in(name, data), split, targets, most_bytes)


def listed_anew(
    specs: Iterable[str],
    source_dir: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
) -> str | None:
    """What tells the images of a folder from others, `None` if no spec reads them."""
    data = data_folder(data_dir)
    wholes = [spec.partition("#")[0] for spec in specs]
    named = [(spec.partition(":")[0], spec) for spec in wholes]
    digests = {
        (name, listed(spec, data, source_dir)[1])
        for name, spec in named
        if name in DATA_SETS
    }
    return "-".join(digest for _, digest in sorted(digests) if digest) or None


def data_folder(folder: str | os.PathLike | None) -> Path:
    """What `data_dir` stands for: TFDS is there, and what is computed once."""
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(folder or default).expanduser()


# ---- Sets of this project ----------------------------------------------------------


def _ours(spec: str, listing: Listing, most_bytes: int) -> Source:
    of_set = data_set(spec.partition(":")[0])
    held = {
        part: tfds.core.SplitInfo(part, [len(records)], 0, None)
        for part, records in listing.splits.items()
    }
    try:
        slices = AbstractSplit.from_spec(split_of(spec)).to_absolute(held)
    # TFDS has no slice of `all`, and says so by a NotImplementedError.
    except (AssertionError, NotImplementedError, ValueError) as error:
        raise DataError(f"{spec} cannot be read: {error}") from error
    records = [
        record
        for part in slices
        for record in ordered(listing, part.splitname)[part.from_ : part.to]
    ]
    if not records:
        raise DataError(f"{spec} cannot be read: it holds no images.")
    target = of_set.target
    examples = Examples(records, target, target.name, most_bytes)
    return Source(spec, target, listing.class_names, of_set.ignore_label, examples)


# ---- Sets of TFDS ------------------------------------------------------------------


def _built_in(name: str, data: Path) -> tfds.core.DatasetBuilder:
    """A builder that TFDS brings along, or one that was prepared in `data`."""
    try:
        return tfds.builder(name, data_dir=data, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        raise DataError(
            f"There is no data set {name!r}: it is none of {', '.join(DATA_SETS)}, "
            f"TFDS does not know it, and it is not prepared in {data}."
        ) from error
    except Exception as error:  # a damaged copy fails in many of its libraries
        raise DataError(f"TFDS cannot open {name!r}: {error}") from error


def _of_tfds(
    spec: str,
    builder: tfds.core.DatasetBuilder,
    split: str,
    targets: Sequence[Target],
    most_bytes: int,
) -> Source:
    features: Any = builder.info.features
    target, feature = next(
        (
            (target, name)
            for target in targets
            for name, kind in features.items()
            if (isinstance(kind, target.kind) if target.kind else name == target.name)
        ),
        (None, None),
    )
    if "image" not in features or target is None or feature is None:
        raise DataError(
            f"{builder.name} has the features {', '.join(features)}. An image and a "
            "label, or an image and a labelled mask, are needed."
        )
    classes = features[feature]
    names = getattr(classes, "names", None)
    count = getattr(classes, "num_classes", 0) or 0
    ignore = (builder.info.metadata or {}).get("ignore_label")
    return Source(
        name=spec,
        target=target,
        class_names=tuple(names or map(str, range(count)))[:ignore],
        ignore_label=ignore,
        examples=Examples(
            _records(builder, split, feature), target, feature, most_bytes
        ),
    )


def _records(builder: Any, split: str, target: str) -> Any:
    """The records of a split, images as the bytes of a file where they can be."""
    features = builder.info.features
    decoders = {
        name: tfds.decode.SkipDecoding()
        for name in ("image", target)
        if isinstance(features[name], tfds.features.Image)
    }
    try:
        records = builder.as_data_source(split, decoders=decoders)
        records[0]
    except ModuleNotFoundError:  # mocked data: to encode it would need TensorFlow
        return builder.as_data_source(split)
    except NotImplementedError as error:  # TFDS: its files cannot be read at random
        raise DataError(
            f"{builder.name} is not prepared as array_record in {builder.data_dir}."
            " That needs TensorFlow, once, on any machine: pip install"
            f" tensorflow-datasets tensorflow, then tfds build {builder.name}"
            " --file_format=array_record --data_dir=<folder>. Then give that folder as"
            " data_dir."
        ) from error
    except (AssertionError, IndexError, OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{builder.name}:{split} cannot be read: {error}") from error
    return records
