"""ImageNet-C: common corruptions at five severities (Hendrycks and Dietterich 2019).

The functions are those of `imagecorruptions-imaug`, the port that is kept: it has all
19, 15 for tests and 4 more that the authors set aside for validation, runs on
numpy 2, and takes images of any size from 32 pixels, where the original has 224 built
in. `imagecorruptions` itself fails on numpy 2; `tensorflow_datasets` has 16 of the 19.
Blurs and noise are as strong as at 224 pixels, so that a small image suffers more: give
the size with every figure.

The library asks for `opencv-python`, which needs the system's libGL.
`opencv-python-headless` is the same without it; the two write to the same folder, so
install one of them only. The library is loaded when it is first used.

Reference: Hendrycks and Dietterich, "Benchmarking neural network robustness to common
corruptions and perturbations", ICLR 2019.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    # Set aside by the authors to choose settings by.
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
)
MIN_SIDE = 32  # pixels

_SEEDED = ("impulse_noise", "glass_blur")  # do not draw from numpy's global generator


def corrupt(image: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """One image with one corruption.

    Args:
      image: `(h, w, 3)`, uint8, no side shorter than `MIN_SIDE`. Not changed.
      name: one of `CORRUPTIONS`.
      severity: 1, the mildest, to 5.
      seed: of the random part; the same seed gives the same image.

    Returns:
      An image of the same shape, uint8.

    Raises:
      ImportError: if the library is not there; it says how to install it.
    """
    settings = {"seed": seed} if name in _SEEDED else {}
    function = library()[name]
    with _global_seed(seed), np.errstate(invalid="raise"):
        try:
            changed = function(Image.fromarray(image), severity, **settings)
        except FloatingPointError:
            if name != "spatter":
                raise
            return image.copy()  # 0 / 0: not one drop fell on a small image
    return np.asarray(changed).astype(np.uint8)


@functools.cache
def library() -> dict[str, Callable]:
    """The corruptions by name; raises the `ImportError` of `corrupt`."""
    try:
        from imagecorruptions import corruption_dict
    except ImportError as error:
        raise ImportError(
            f"Corruptions need a library ({error}): pip install imagecorruptions-imaug;"
            " where libGL is not there, pip uninstall opencv-python and pip install "
            "--force-reinstall opencv-python-headless."
        ) from error
    return corruption_dict


@contextlib.contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seeds the generator that the library draws from, and puts it back after."""
    # The library knows numpy's global generator alone.
    kept = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(kept)  # noqa: NPY002
