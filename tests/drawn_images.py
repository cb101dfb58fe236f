"""Tiny data sets in the layouts that the builders read, drawn for tests."""

from pathlib import Path

import numpy as np
from PIL import Image

from experiments.data.camvid import SPLITS
from experiments.data.pacs import CLASSES, DOMAINS


def picture(seed: int, size: tuple[int, int] = (40, 48)) -> np.ndarray:
    """A smooth image, `(h, w, 3)`, uint8: JPEG changes it little."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    height, width = size
    bilinear = Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(corners).resize((width, height), bilinear))


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def draw_pacs(root: Path, per_class: int = 7) -> Path:
    """`per_class` images in each class of each domain."""
    for d, domain in enumerate(DOMAINS):
        for c, label in enumerate(CLASSES):
            for i in range(per_class):
                image = picture(1000 * d + 100 * c + i)
                save(image, root / domain / label / f"image_{i}.jpg")
    return root


def draw_camvid(root: Path, images: int = 3, side: int = 40) -> Path:
    """The lower half is class 3 and red, some columns at the left void and blue."""
    for split in SPLITS:
        for i in range(images):
            mask = np.zeros((side, side), np.uint8)
            mask[side // 2 :] = 3
            mask[:, : i + 1] = 11
            image = 255 * np.stack([mask == 3, mask == 0, mask == 11], -1)
            save(image.astype(np.uint8), root / split / f"frame_{i}.png")
            save(mask, root / f"{split}annot" / f"frame_{i}.png")
    return root


def draw_folder(root: Path, counts: dict[str, dict[str, int]]) -> Path:
    """Images by split and class, in turn PNG and JPEG."""
    for split, classes in counts.items():
        for label, count in classes.items():
            for i in range(count):
                suffix = ("png", "jpg")[i % 2]
                save(picture(i), root / split / label / f"{i}.{suffix}")
    return root
