"""PACS: photos, art, cartoons and sketches of seven classes (Li et al. 2017).

Read from a folder `<domain>/<class>/*.jpg`. Every domain is split by a fixed rule: the
images of a class, in the order of a hash of their names, are 70 % `_train`, 15 % `_val`
and the rest `_test`. The rule depends on nothing else, so the splits are the same on
every machine and at every image size. The domain's name alone is all of it.

Reference: Li, Yang, Song and Hospedales, "Deeper, broader and artier domain
generalization", ICCV 2017.
"""

import hashlib
import os
from pathlib import Path

from experiments.data.folders import DataSet, Listing, images, record, require_folders

DOMAINS = ("photo", "art_painting", "cartoon", "sketch")
CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
PARTS = ("train", "val", "test")
LAYOUT = "<domain>/<class>/*.jpg"


def listing(root: Path) -> Listing:
    """The twelve splits, three a domain."""
    require_folders(root, DOMAINS, LAYOUT)
    splits = {f"{domain}_{part}": [] for domain in DOMAINS for part in PARTS}
    for domain in DOMAINS:
        require_folders(root / domain, CLASSES, LAYOUT)
        for label, name in enumerate(CLASSES):
            for part, paths in _parts(images(root / domain / name)).items():
                splits[f"{domain}_{part}"] += [
                    record(root, path, label=label) for path in paths
                ]
    return Listing(CLASSES, splits)


def _parts(paths: list[Path]) -> dict[str, list[Path]]:
    """The images of one class of one domain, by part."""
    ordered = sorted(paths, key=lambda p: hashlib.sha256(os.fsencode(p.stem)).digest())
    train, val = round(0.70 * len(paths)), round(0.85 * len(paths))
    parts = ordered[:train], ordered[train:val], ordered[val:]
    return dict(zip(PARTS, parts, strict=True))


DATA_SET = DataSet(
    listing,
    LAYOUT,
    aliases={
        domain: "+".join(f"{domain}_{part}" for part in PARTS) for domain in DOMAINS
    },
)
