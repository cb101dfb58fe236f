"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), a batch on its device.

Every image is mixed with the one at its place in the reversed batch, all in the same
proportion, and so are the losses of the two labels; as timm and DeiT do it.
"""

import jax
import jax.numpy as jnp

MixedImages = tuple[jax.Array, jax.Array]  # and the share of each image's own label


def mix(key: jax.Array, images: jax.Array, mixup: float, cutmix: float) -> MixedImages:
    """Mixes the images of a batch in one of two ways.

    Args:
      key: of the random numbers.
      images: `(n, h, w, 3)`.
      mixup: both parameters of the beta distribution of the share; 0 never blends.
      cutmix: the same of the share that is not cut out; 0 never cuts. Where neither is
        0, each is taken for half of the batches.

    Returns:
      Images as float32, and the share of their own label, a scalar.
    """
    choice, blending, cutting = jax.random.split(key, 3)
    images = images.astype(jnp.float32)
    if not cutmix:
        return _blended(blending, images, mixup)
    if not mixup:
        return _cut(cutting, images, cutmix)
    return jax.lax.cond(
        jax.random.bernoulli(choice),
        lambda: _blended(blending, images, mixup),
        lambda: _cut(cutting, images, cutmix),
    )


def _blended(key: jax.Array, images: jax.Array, alpha: float) -> MixedImages:
    share = jax.random.beta(key, alpha, alpha)
    return share * images + (1 - share) * images[::-1], share


def _cut(key: jax.Array, images: jax.Array, alpha: float) -> MixedImages:
    """A rectangle comes from the other image; its centre lies anywhere."""
    of_share, of_centre = jax.random.split(key)
    side = jnp.sqrt(1 - jax.random.beta(of_share, alpha, alpha))
    centre = jax.random.uniform(of_centre, (2,))
    inside = [
        jnp.abs((jnp.arange(length) + 0.5) / length - at) <= side / 2
        for length, at in zip(images.shape[1:3], centre, strict=True)
    ]
    rectangle = jnp.logical_and(*jnp.meshgrid(*inside, indexing="ij"))[..., None]
    return jnp.where(rectangle[None], images[::-1], images), 1 - rectangle.mean()
