"""Scenes of planes and spheres, drawn with the normals that they have exactly."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SIDE = 32


def shaded(normals, rng):
    """The image of a matt surface under light from three sides, red, green and blue."""
    lights = np.array([[0.6, 0.0, 0.8], [-0.6, 0.0, 0.8], [0.0, 0.6, 0.8]])
    noise = rng.normal(0, 2, (SIDE, SIDE, 3))
    image = 230 * np.clip(normals @ lights.T, 0, 1) + 10 + noise
    return np.clip(image, 0, 255).astype(np.uint8)


def plane(rng):
    """A tilted plane: the same normal everywhere."""
    slope = rng.uniform(-0.8, 0.8, 2)
    normal = np.array([*slope, 1.0])
    return np.broadcast_to(normal / np.linalg.norm(normal), (SIDE, SIDE, 3)).copy()


def scene(seed):
    """An image and its normals: a sphere before a plane; the left column is unknown."""
    rng = np.random.default_rng(seed)
    normals = plane(rng)
    radius, (left, top) = rng.uniform(8, 13), rng.uniform(11, SIDE - 11, 2)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    x, y = (x - left) / radius, (y - top) / radius
    inside = x**2 + y**2 < 1
    z = np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))
    normals[inside] = np.stack([x, y, z], -1)[inside]
    image = shaded(normals, rng)
    normals[:, 0] = 0
    return image, normals.astype(np.float32)


class Scenes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Features `image` and `normals`, as any prepared data set of TFDS has them."""

    name = "scenes"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3)),
                    "normals": tfds.features.Tensor(
                        shape=(SIDE, SIDE, 3), dtype=np.float32
                    ),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {
            "train": self._generate_examples(range(24)),
            "val": self._generate_examples(range(100, 108)),
            "test": self._generate_examples(range(200, 208)),
        }

    def _generate_examples(self, seeds):
        for seed in seeds:
            image, normals = scene(seed)
            file = io.BytesIO()
            Image.fromarray(image).save(file, "png")
            yield str(seed), {"image": file.getvalue(), "normals": normals}


def prepare(folder):
    """Writes the scenes where `open_source("scenes:train", folder)` reads them."""
    Scenes(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder
