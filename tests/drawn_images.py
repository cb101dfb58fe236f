"""Tiny data sets in the layouts that are read from folders, drawn for tests."""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.data import pacs
from experiments.data.folders import PARTS


def picture(seed: int, size: tuple[int, int] = (40, 48)) -> np.ndarray:
    """A smooth image, `(h, w, 3)`, uint8: JPEG changes it little."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    height, width = size
    bilinear = Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(corners).resize((width, height), bilinear))


def save(array: np.ndarray, path: Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def draw_folder(root: Path, counts: dict[str, dict[str, int]]) -> Path:
    """Pictures 0, 1, 2, ... by split and class, in turn PNG and JPEG."""
    seeds = itertools.count()
    for split, classes in counts.items():
        for label, count in classes.items():
            for i in range(count):
                file = f"{i}.{('png', 'jpg')[i % 2]}"
                save(picture(next(seeds)), root / split / label / file)
    return root


def draw_pacs(root: Path, per_class: int = 7) -> Path:
    """`per_class` images in each class of each domain."""
    counts = dict.fromkeys(pacs.CLASSES, per_class)
    return draw_folder(root, dict.fromkeys(pacs.DOMAINS, counts))


def draw_camvid(root: Path, images: int = 3, side: int = 40) -> Path:
    """The lower half is class 3 and red, some columns at the left void and blue."""
    for split in PARTS:
        for i in range(images):
            mask = np.zeros((side, side), np.uint8)
            mask[side // 2 :] = 3
            mask[:, : i + 1] = 11
            image = 255 * np.stack([mask == 3, mask == 0, mask == 11], -1)
            save(image.astype(np.uint8), root / split / f"frame_{i}.png")
            save(mask, root / f"{split}annot" / f"frame_{i}.png")
    return root


def draw_masked(root: Path, images: int = 7) -> Path:
    """Pictures whose columns are of class 0, 1, 2 and, the last ones, 255."""
    for i in range(images):
        mask = np.tile(np.repeat([0, 1, 2, 255], 12).astype(np.uint8), (40, 1))
        save(picture(i), root / f"img/{i}.jpg")
        save(mask, root / f"labels/{i}.png")
    classes = "0 background\n1 upper body\n2 shoes\n\n"
    (root / "classes.txt").write_text(classes, "utf-8-sig")  # as some editors do
    return root


LISTED = {
    "real_train": {"axe": 6, "bat": 3, "cup": 3},
    "real_test": {"axe": 2, "bat": 2, "cup": 2},
    "sketch_test": {"axe": 3, "bat": 0, "cup": 1},
}


def draw_lists(root: Path) -> Path:
    """DomainNet's layout: `sketch/axe/0.png` of class 0 in `sketch_test.txt`, ..."""
    for name, counts in LISTED.items():
        lines = []
        for label, (folder, count) in enumerate(counts.items()):
            for i in range(count):
                path = f"{name.partition('_')[0]}/{folder}/{name} {i}.png"
                save(picture(label), root / path)
                lines.append(f"{path} {label}\n")
        (root / f"{name}.txt").write_text("".join(lines), "utf-8-sig")
    return root


COUNTS = {"train": {"cat": 4, "dog": 3, "owl": 2}, "night": {"dog": 2, "owl": 1}}
DRAWN = {
    "list": draw_lists,
    "mask_folder": draw_masked,
    "pacs": draw_pacs,
    "camvid": draw_camvid,
    "image_folder": lambda root: draw_folder(root, COUNTS),
}
