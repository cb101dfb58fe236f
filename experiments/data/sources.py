"""From a spec such as `pacs:photo_train` to images and labels that can be indexed."""

import dataclasses
import functools
import importlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from experiments.data import DataError
from experiments.data.examples import LABEL, MASK, Cache, Examples, Target
from experiments.data.folders import FolderBuilder, is_prepared, prepare

# Module of this folder -> its builder; imported when it is asked for.
DATA_SETS = {
    "pacs": "Pacs",
    "camvid": "Camvid",
    "image_folder": "ImageFolder",
    "digits": "Digits",
}


@dataclasses.dataclass(frozen=True)
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
    """

    name: str
    target: Target
    class_names: tuple[str, ...]
    ignore_label: int | None
    examples: Examples | Cache

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """`(n,)`, int32; read without decoding an image. Only for classification."""
        if self.target != LABEL:
            raise DataError(f"{self.name} has a mask for each image, not a label.")
        return np.array([r["label"] for r in self.examples.records], np.int32)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.examples[index]

    def cached(self) -> "Source":
        """The same source; an image that was decoded once is kept, as uint8."""
        if isinstance(self.examples, Cache):
            return self
        return dataclasses.replace(self, examples=Cache(self.examples))


def open_source(
    spec: str,
    data_dir: str | os.PathLike | None = None,
    source_dir: str | os.PathLike | None = None,
    targets: Sequence[Target] = (LABEL, MASK),
) -> Source:
    """Opens a split of a data set, and prepares the set first if it is one of ours.

    Args:
      spec: `"builder:split"`, such as `pacs:photo_train`, `camvid:test`,
        `image_folder:art` or `cifar10:train[:90%]`. Splits can be sliced and added as
        in TFDS.
      data_dir: where prepared data is kept; by default the environment variable
        `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
      source_dir: the folder with the images, or its parent where the folder is called
        as the builder. Needed to prepare `pacs` and `camvid`, always for
        `image_folder`; `digits` takes none. It is only read.
      targets: the first of them that the data set has is what there is to predict.

    Raises:
      DataError: if the spec is wrong or there is no such data; it says what to do.
    """
    name, _, split = spec.partition(":")
    if not name or not split:
        raise DataError(
            f"A data set is given as builder:split, such as pacs:photo_train, got "
            f"{spec!r}."
        )
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    data = Path(data_dir or default).expanduser()
    if name in DATA_SETS:
        kind = _kind(name)
        builder = _our_builder(kind, data, source_dir)
        split = kind.ALIASES.get(split, split)
    else:
        builder = _built_in(name, data)
    return _source(spec, builder, split, targets)


def listed_anew(specs: Iterable[str], source_dir: str | os.PathLike) -> str | None:
    """What tells the images of a folder from others, for data that is them as they are.

    `None` if no spec is of such data: all other carries its name.
    """
    for name in {spec.partition(":")[0] for spec in specs} & DATA_SETS.keys():
        if _kind(name).FOLDER == "as it is":
            config: Any = _kind(name).config_of(Path(source_dir).expanduser())
            return config.name.rpartition("-")[-1]  # the folder may be renamed
    return None


def _kind(name: str) -> type[FolderBuilder]:
    """One of our builders."""
    return getattr(importlib.import_module(f"experiments.data.{name}"), DATA_SETS[name])


def _prepared(
    kind: type[FolderBuilder], root: Path, data: Path, config: Any = None
) -> FolderBuilder:
    """A builder of what is in `root`, prepared in `data` if it is not there yet."""

    def make(folder: Path) -> FolderBuilder:
        return kind(data_dir=folder, config=config, file_format="array_record")

    if not is_prepared(place := _place(kind, data, config)):
        prepare(make, root, place, data)
    return make(data)


def _place(kind: type[FolderBuilder], data: Path, config: Any = None) -> Path:
    """Where TFDS looks for what a builder has prepared."""
    named = [] if config is None else [config.name]
    return data.joinpath(kind.name, *named, str(kind.VERSION))


def _our_builder(
    kind: type[FolderBuilder], data: Path, source_dir: str | os.PathLike | None
) -> FolderBuilder:
    """One of our builders, its data prepared if need be."""
    if kind.FOLDER == "none":
        return _prepared(kind, data, data)
    if kind.FOLDER == "as it is":
        if source_dir is None:
            raise DataError(
                f"{kind.name} needs source_dir, a folder with the layout {kind.LAYOUT}."
            )
        root = Path(source_dir).expanduser()
        return _prepared(kind, root, data, kind.config_of(root))
    place = _place(kind, data)
    if source_dir is None:
        if not is_prepared(place):
            raise DataError(
                f"{kind.name} is not prepared in {data}. Give source_dir, a folder "
                f"with the layout {kind.LAYOUT}, to prepare it, or the data_dir where "
                "it is."
            )
        return _prepared(kind, data, data)

    root = _root(source_dir, kind.name)
    builder = _prepared(kind, root, data)
    metadata: Any = builder.info.metadata
    if metadata["fingerprint"] != builder.mark(builder.listing(root), root):
        raise DataError(
            f"{place} was prepared from a folder that differs from {root}. Remove it "
            "to prepare it anew, give another data_dir, or leave out source_dir to use "
            "it as it is."
        )
    return builder


def _root(source_dir: str | os.PathLike, name: str) -> Path:
    """The folder, or the one in it that is called `name`."""
    folder = Path(source_dir).expanduser()
    if not folder.is_dir():
        raise DataError(f"source_dir = {folder} is not a folder.")
    return folder / name if (folder / name).is_dir() else folder


def _built_in(name: str, data: Path) -> tfds.core.DatasetBuilder:
    """A builder that TFDS brings along, or one that was prepared in `data`."""
    try:
        return tfds.builder(name, data_dir=data, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        ours = ", ".join(DATA_SETS)
        raise DataError(
            f"There is no data set {name!r}: it is none of ours ({ours}), TFDS does "
            f"not know it, and it is not prepared in {data}."
        ) from error
    except (AssertionError, ImportError, ValueError) as error:
        raise DataError(f"TFDS cannot open {name!r}: {error}") from error


def _source(
    spec: str, builder: tfds.core.DatasetBuilder, split: str, targets: Sequence[Target]
) -> Source:
    features: Any = builder.info.features
    held = [(target, target.feature(features, target.name)) for target in targets]
    target, feature = next(((t, f) for t, f in held if f), (None, None))
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
        examples=Examples(_records(builder, split, feature), target, feature),
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
        raise DataError(_how_to_prepare(builder)) from error
    except (AssertionError, IndexError, OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{builder.name}:{split} cannot be read: {error}") from error
    return records


def _how_to_prepare(builder: Any) -> str:
    return (
        f"{builder.name} is not prepared as array_record in {builder.data_dir}. That "
        "needs TensorFlow, once, on any machine: pip install tensorflow-datasets "
        f"tensorflow, then tfds build {builder.name} --file_format=array_record "
        "--data_dir=<folder>. Then give that folder as data_dir."
    )
