"""PACS: photos, art, cartoons and sketches of seven classes (Li et al. 2017).

Read from a folder `<domain>/<class>/*.jpg`. Every domain is split by a fixed rule: the
images of a class, in the order of a hash of their names, are 70 % `_train`, 15 % `_val`
and the rest `_test`. The rule depends on nothing else, so the splits are the same on
every machine and at every image size. The domain's name alone is all of it.

Reference: Li, Yang, Song and Hospedales, "Deeper, broader and artier domain
generalization", ICCV 2017.
"""

import hashlib
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from experiments.data.folders import (
    FolderBuilder,
    Listing,
    Picture,
    images,
    require_folders,
)

DOMAINS = ("photo", "art_painting", "cartoon", "sketch")
CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
PARTS = ("train", "val", "test")


class Pacs(FolderBuilder):
    """Features `image`, uint8 (h, w, 3), and `label`; twelve splits, three a domain."""

    name = "pacs"
    VERSION = tfds.core.Version("1.0.0")
    LAYOUT = "<domain>/<class>/*.jpg"
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"A folder with the layout {LAYOUT}."
    ALIASES: ClassVar = {
        domain: "+".join(f"{domain}_{part}" for part in PARTS) for domain in DOMAINS
    }

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Photos, art paintings, cartoons and sketches of 7 classes.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                }
            ),
            metadata=tfds.core.MetadataDict(),
            citation="Li et al., Deeper, broader and artier domain generalization",
        )

    def listing(self, root: Path) -> Listing:
        require_folders(root, DOMAINS, self.LAYOUT)
        splits: Listing = {f"{d}_{part}": [] for d in DOMAINS for part in PARTS}
        for domain in DOMAINS:
            require_folders(root / domain, CLASSES, self.LAYOUT)
            for label in CLASSES:
                for part, paths in _split(images(root / domain / label)).items():
                    splits[f"{domain}_{part}"] += [Picture(p, label) for p in paths]
        return splits


def _split(paths: list[Path]) -> dict[str, list[Path]]:
    """The images of one class of one domain, by part."""
    ordered = sorted(paths, key=lambda p: hashlib.sha256(p.stem.encode()).digest())
    train, val = round(0.70 * len(paths)), round(0.85 * len(paths))
    parts = ordered[:train], ordered[train:val], ordered[val:]
    return dict(zip(PARTS, parts, strict=True))
