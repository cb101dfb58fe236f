"""A tiny PASCAL-Context in the layout of PASCAL_MT, with what its targets must be."""

import numpy as np
import scipy.io

from drawn_images import picture, save

SPLITS = {"train": range(6), "val": range(6, 9)}
SIDES = HEIGHT, WIDTH = 36, 48
PERSON, CAR, SOFA = 15, 7, 18
FROM = ("VOC12", "pascal-context")


def box(top, bottom, left, right):
    mask = np.zeros(SIDES, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


HEAD, ARM, TORSO = box(4, 10, 6, 12), box(8, 14, 12, 20), box(10, 20, 6, 12)


def semseg(i):
    """A person, or a sofa where VOC has no mask; the first row does not count."""
    mask = (PERSON if i % 2 else SOFA) * box(4, 30, 6, 20)
    mask[0] = 255
    return mask


def parts(i):
    """Of the persons of every image but each third, which has none with parts."""
    if i % 3 == 2:
        return None
    mask = np.where(HEAD, 1, 0)
    mask[ARM > 0] = 4
    mask[np.roll(TORSO, 20 + i, axis=1) > 0] = 2
    return mask


def normals(i):
    """Towards the viewer's left, where the label map has a person; else unknown."""
    field = np.zeros((*SIDES, 3))
    field[:, : WIDTH // 2] = [-0.6, 0.0, 0.8 - 0.01 * i]
    return field / np.maximum(np.linalg.norm(field, axis=-1, keepdims=True), 1e-9)


def struct(rows, *names):
    """As MATLAB saves an array of structures; empty without rows."""
    array = np.zeros(
        (1, len(rows)) if rows else (0, 0), [(name, "O") for name in names]
    )
    for i, row in enumerate(rows):
        array[0, i] = row
    return array


def annotation(i):
    of_parts = ("part_name", "mask")
    whole = box(0, HEIGHT, 0, WIDTH)
    objects = [
        ("car", CAR, whole, struct([("wheel", whole)], *of_parts)),
        ("person", PERSON, whole, struct([], *of_parts)),
    ]
    if parts(i) is not None:
        arm = struct([("head", HEAD), ("llarm", ARM)], *of_parts)
        torso = struct([("torso", np.roll(TORSO, 20 + i, axis=1))], *of_parts)
        objects += [("person", PERSON, whole, x) for x in (arm, torso)]
    found = struct(objects, "class", "class_ind", "mask", "parts")
    return struct([(str(i), found)], "imname", "objects")


def save_matlab(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, content)


def draw_pascal(root):
    """Nine images, of which 2, 5 and 8 have no person with parts."""
    for split, images in SPLITS.items():
        for i in images:
            save(picture(i, SIDES), root / f"JPEGImages/{i}.jpg", quality=95)
            of_voc, other = (root / f"semseg/{x}/{i}.png" for x in FROM)
            save(semseg(i), of_voc if i % 2 else other)
            if i % 2:  # the other mask is not asked for
                save(0 * semseg(i), other)
            save_matlab(root / f"human_parts/{i}.mat", anno=annotation(i))
            colours = np.round(127.5 * (normals(i) + 1)).astype(np.uint8)
            save(colours, root / f"normals_distill/{i}.png")
            labels = np.where(np.arange(WIDTH) < WIDTH // 2, 284, 2)
            labels = np.tile(labels.astype(np.uint16), (HEIGHT, 1))
            save_matlab(root / f"pascal-context/trainval/{i}.mat", LabelMap=labels)
        file = root / f"ImageSets/Context/{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{i}\n" for i in images))
    return root
