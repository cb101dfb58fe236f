"""Images of your own, in one folder for each split and in it one for each class.

`<split>/<class>/*.jpg` (or png, webp, bmp), where a split is a domain too: `train`,
`val`, `art`, `night`. The classes are those of `train`, or without such a folder of the
split that has the most; the others may lack some, but may not have any that it has not.

The prepared copy is called after the folder and after the names and sizes of its files,
so that a folder that changed is prepared anew.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from experiments.data import DataError
from experiments.data.folders import (
    FolderBuilder,
    Listing,
    Picture,
    fingerprint,
    images,
    subfolders,
)

_LAYOUT = "<split>/<class>/*.{jpg,png,webp,bmp}"


@dataclasses.dataclass(eq=False)
class ImageFolderConfig(tfds.core.BuilderConfig):
    """A folder as it was listed."""

    class_names: tuple[str, ...] = ()


class ImageFolder(FolderBuilder):
    """Features `image`, uint8 (h, w, 3), and `label`; a split for every folder."""

    name = "image_folder"
    VERSION = tfds.core.Version("1.0.0")
    FOLDER = "as it is"
    LAYOUT = _LAYOUT
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"A folder with the layout {LAYOUT}."

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        assert isinstance(config, ImageFolderConfig), "built by `config_of`"
        return tfds.core.DatasetInfo(
            builder=self,
            description="Images of a local folder.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=config.class_names),
                }
            ),
            metadata=tfds.core.MetadataDict(),
        )

    def _create_builder_config(self, builder_config, version) -> Any:
        # TFDS would warn that it does not know this configuration.
        del version
        return builder_config

    @classmethod
    def config_of(cls, root: Path) -> ImageFolderConfig:
        """What tells this folder, as it is now, from others.

        Raises:
          DataError: if it is laid out otherwise.
        """
        listing = list_folder(root)
        title = re.sub(r"\W+", "_", root.resolve().name) or "root"
        return ImageFolderConfig(
            name=f"{title}-{fingerprint(listing, root)}",
            class_names=_class_names(root, listing),
        )

    def listing(self, root: Path) -> Listing:
        return list_folder(root)


def list_folder(root: Path) -> Listing:
    """The images of every split.

    Raises:
      DataError: if the folder is laid out otherwise.
    """
    splits = subfolders(root)
    if not splits:
        raise DataError(f"{root} holds no folders; expected the layout {_LAYOUT}.")
    return {split: _list_split(root / split) for split in splits}


def _list_split(folder: Path) -> list[Picture]:
    if folder.name == "all":
        raise DataError(
            f"{folder} names a split, and `all` stands for the sum of them. Rename it."
        )
    if not re.fullmatch(r"\w+", folder.name):
        raise DataError(
            f"{folder} names a split; use letters, digits and _ only. Rename it."
        )
    labels = subfolders(folder)
    if not labels:
        raise DataError(
            f"{folder} is a split and must hold a folder for each class; expected the "
            f"layout {_LAYOUT}, and source_dir the folder above the splits."
        )
    return [Picture(p, label) for label in labels for p in images(folder / label)]


def _class_names(root: Path, listing: Listing) -> tuple[str, ...]:
    """The classes of `train`, or of the split that has the most, sorted."""
    classes = {
        split: {str(p.target) for p in pictures} for split, pictures in listing.items()
    }
    fullest = max(classes, key=lambda split: len(classes[split]))
    leader = "train" if "train" in classes else fullest
    for split, held in classes.items():
        if strange := held - classes[leader]:
            raise DataError(
                f"{root / split} has the class {', '.join(sorted(strange))}, which "
                f"{root / leader} has not. A split may lack classes of {leader}, but "
                f"have no others: add the class to {leader}, or move the folder out of "
                f"{root}."
            )
    return tuple(sorted(classes[leader]))
