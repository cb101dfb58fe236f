"""PACS: photos, art, cartoons and sketches of seven classes (Li et al. 2017).

Read from a folder `<domain>/<class>/*.jpg`. Each class of a domain is split by a fixed
rule, that of `folders.parted`, into `_train`, `_val` and `_test`; the domain's name
alone is all of it.

Reference: Li, Yang, Song and Hospedales, "Deeper, broader and artier domain
generalization", ICCV 2017.
"""

from pathlib import Path

from experiments.data.folders import (
    PARTS,
    DataSet,
    Listing,
    images,
    parted,
    record,
    require_folders,
)

DOMAINS = ("photo", "art_painting", "cartoon", "sketch")
CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
LAYOUT = "<domain>/<class>/*.jpg"


def listing(root: Path) -> Listing:
    """The twelve splits, three a domain."""
    require_folders(root, DOMAINS, LAYOUT)
    splits = {f"{domain}_{part}": [] for domain in DOMAINS for part in PARTS}
    for domain in DOMAINS:
        require_folders(root / domain, CLASSES, LAYOUT)
        for label, name in enumerate(CLASSES):
            held = [record(root, p, label=label) for p in images(root / domain / name)]
            for part, records in parted(held).items():
                splits[f"{domain}_{part}"] += records
    return Listing(CLASSES, splits)


DATA_SET = DataSet(
    listing,
    LAYOUT,
    aliases={
        domain: "+".join(f"{domain}_{part}" for part in PARTS) for domain in DOMAINS
    },
)
