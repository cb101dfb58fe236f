"""What every network offers: features, a head on them, and its arrays by name."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.models.layers import batch_norm, normalise
from experiments.models.naming import Table

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)  # as mean and deviation: pixels / 127.5 - 1


class Backbone(nnx.Module):
    """A network without its head; it standardises its input itself.

    Attributes:
      tables: what its arrays are called in the files that are published.
      width: how many features it gives.
      map_widths: of its feature maps, where these have others.
      dtype: in which it computes; parameters stay float32.
      mean: of each colour channel, in units of 255.
      std: the same.
      sized: whether it is made for one size of image, its option `image_size`.
      image_size: side of the images, where it is.
      folded_epsilon: of the batch norms that are folded into its kernels, if they are.
    """

    tables: ClassVar[Sequence[Table]] = ()
    width: int
    map_widths: tuple[int, ...] = ()
    dtype: jnp.dtype
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    sized: bool = False
    image_size: int
    folded_epsilon: float | None = None

    def leaves_out(self, path: str) -> bool:
        """Whether a parameter is of a part of the published network that this lacks."""
        del path
        return False

    def standardise(self, images: jax.Array) -> jax.Array:
        """Maps pixels of 0 to 255, of any dtype, to the network's range and dtype."""
        shape = (1,) * (images.ndim - 1) + (3,)
        scale = 1 / (255 * jnp.array(self.std)).reshape(shape)
        shift = (jnp.array(self.mean) / jnp.array(self.std)).reshape(shape)
        return (images.astype(jnp.float32) * scale - shift).astype(self.dtype)

    def check_size(self, images: jax.Array) -> None:
        """Refuses images of another size than those that it is made for."""
        if images.shape[1:3] != (self.image_size,) * 2:
            raise ValueError(
                f"images: expected {self.image_size} x {self.image_size} pixels, got"
                f" shape {images.shape}; create the model with their image_size"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Of its feature maps."""
        return self.map_widths or (self.width,)

    def feature_map(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, h, w, 3)` to features `(n, h', w', width)`."""
        raise NotImplementedError  # each network has this or its own `feature_maps`

    def feature_maps(
        self, images: jax.Array, *, train: bool, rng: jax.Array | None = None
    ) -> list[jax.Array]:
        """Maps images `(n, h, w, 3)` to one map or several, the finest first."""
        return [self.feature_map(images, train=train)]

    def pooled(
        self, images: jax.Array, *, train: bool, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps images `(n, h, w, 3)` to one vector each, `(n, width)` in float32."""
        *_, last = self.feature_maps(images, train=train, rng=rng)
        return last.astype(jnp.float32).mean((1, 2))


# ---- Heads: one prediction for an image, or one for each of its pixels ------------

# A new head starts at zero: it favours no class and passes no noise to the backbone.
ZEROS = nnx.initializers.zeros


class Classifier(nnx.Module):
    """A linear head on the pooled features."""

    def __init__(self, backbone: Backbone, num_classes: int, *, rngs: nnx.Rngs):
        self.backbone = backbone
        self.head = nnx.Linear(
            backbone.width,
            num_classes,
            kernel_init=ZEROS,
            dtype=backbone.dtype,
            rngs=rngs,
        )

    def features(
        self, images: jax.Array, *, train: bool = False, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps images `(n, h, w, 3)` of 0 to 255 to `(n, width)`, as the head sees."""
        return self.backbone.pooled(images, train=train, rng=rng)

    def __call__(
        self, images: jax.Array, *, train: bool = False, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps images `(n, h, w, 3)` of 0 to 255 to float32 logits `(n, classes)`."""
        features = self.features(images, train=train, rng=rng)
        return self.head(features).astype(jnp.float32)


class Segmenter(nnx.Module):
    """A 1 x 1 convolution on a feature map, enlarged to the size of the images."""

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        width: int | None = None,
        rngs: nnx.Rngs,
    ):
        self.backbone = backbone
        self.head = nnx.Conv(
            width or backbone.widths[-1],
            num_classes,
            (1, 1),
            kernel_init=ZEROS,
            dtype=backbone.dtype,
            rngs=rngs,
        )

    def features(
        self, images: jax.Array, *, train: bool = False, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps images `(n, h, w, 3)` of 0 to 255 to the map `(n, h', w', width)`."""
        return self.backbone.feature_maps(images, train=train, rng=rng)[-1]

    def __call__(
        self, images: jax.Array, *, train: bool = False, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps images `(n, h, w, 3)` to float32 logits `(n, h, w, classes)`."""
        logits = self.head(self.features(images, train=train, rng=rng))
        return _enlarged(logits, images.shape[1:3]).astype(jnp.float32)


class MLPSegmenter(Segmenter):
    """The same on all maps, joined as in SegFormer (Xie et al. 2021): an all-MLP head.

    Each map is projected to one width and enlarged to the finest; a linear layer, batch
    norm and a ReLU fuse them. These are as new as the head: `decoder/` in their names.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, *, width: int = 256, rngs: nnx.Rngs
    ):
        super().__init__(backbone, num_classes, width=width, rngs=rngs)
        self.decoder = AllMLP(backbone.widths, width, backbone.dtype, rngs)

    def features(
        self, images: jax.Array, *, train: bool = False, rng: jax.Array | None = None
    ) -> jax.Array:
        """Maps images `(n, h, w, 3)` of 0 to 255 to the fused map `(n, h', w', c)`."""
        maps = self.backbone.feature_maps(images, train=train, rng=rng)
        return self.decoder(maps, train=train)


class AllMLP(nnx.Module):
    """Fuses maps of several sizes."""

    def __init__(
        self, widths: Sequence[int], width: int, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        options = {"dtype": dtype, "rngs": rngs}
        self.projections = nnx.List(nnx.Linear(w, width, **options) for w in widths)
        self.fuse = nnx.Linear(width * len(widths), width, use_bias=False, **options)
        self.norm = batch_norm(width, epsilon=1e-5, **options)

    def __call__(self, maps: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Maps features `(n, h, w, c)`, the finest first, to `(n, h, w, width)`."""
        finest = maps[0].shape[1:3]
        projected = [
            _enlarged(linear(x), finest)
            for linear, x in zip(self.projections, maps, strict=True)
        ]
        fused = self.fuse(jnp.concatenate(projected[::-1], axis=-1))
        return nnx.relu(normalise(self.norm, fused, train))


def _enlarged(x: jax.Array, sides: Sequence[int]) -> jax.Array:
    return jax.image.resize(x, (x.shape[0], *sides, x.shape[-1]), "bilinear")


DECODERS = {"linear": Segmenter, "mlp": MLPSegmenter}
"""Heads of dense tasks: of the last feature map, or of all."""

# ---- Parameters and statistics by name ---------------------------------------------

ONES = ("scale", "var")  # of norms
TABLES = ("pos_embed", "cls", "bias_table", "embedding")


def names_and_leaves(model: nnx.Module) -> dict[str, Any]:
    """All arrays of the model, by names such as `backbone/layer1/0/conv1/kernel`."""
    values = nnx.to_pure_dict(nnx.state(model))
    return {_name(keys): leaf for keys, leaf in jax.tree.leaves_with_path(values)}


def replace(model: nnx.Module, value_of: Callable[[str, Any], Any]) -> None:
    """Puts `value_of(name, leaf)` in place of every array of the model."""
    state = nnx.state(model)
    values = nnx.to_pure_dict(state)
    new = jax.tree.map_with_path(
        lambda keys, leaf: jnp.asarray(value_of(_name(keys), leaf), leaf.dtype), values
    )
    nnx.replace_by_pure_dict(state, new)
    nnx.update(model, state)


def _name(keys: Any) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def drawn(make: Callable[[], nnx.Module], seed: Any) -> Any:
    """The model that `make` describes, its weights drawn by numpy: nothing compiles.

    Kernels are uniform with the variance of one over the fan-in, and position tables
    within 0.02; norms are the identity; biases and the head are zero.

    Args:
      make: returns the model; only its shapes matter, it is traced.
      seed: as `numpy.random.default_rng` takes it.
    """
    random = np.random.default_rng(seed)

    def value(name: str, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        last = name.split("/")[-1]
        if last in ONES:
            return np.ones(leaf.shape, np.float32)
        if name.startswith("head/") or last not in ("kernel", *TABLES):
            return np.zeros(leaf.shape, np.float32)
        fan_in = np.prod(leaf.shape[:-1])
        bound = 0.02 if last in TABLES else np.sqrt(3 / fan_in)
        return bound * (2 * random.random(leaf.shape, np.float32) - 1)

    model = nnx.eval_shape(make)
    replace(model, value)
    return model


def layer_names(model: Any) -> tuple[str, ...]:
    """Names of all parameters in the order in which the forward pass reads them.

    The names are those of `ftp_optax`: `backbone/layer1/0/conv1/kernel`. The order is
    read off the traced computation, so it holds for any network.
    """
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    side = getattr(model.backbone, "image_size", 64)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)

    def forward(params: Any, rest: Any, images: jax.Array) -> jax.Array:
        network: Any = nnx.merge(graphdef, params, rest)
        return network(images, train=False)

    jaxpr = jax.make_jaxpr(forward)(params, rest, images).jaxpr
    first_read = {}
    for position, equation in enumerate(jaxpr.eqns):
        for variable in equation.invars:
            if isinstance(variable, jax.extend.core.Var):  # and no literal
                first_read.setdefault(variable, position)
    flat = jax.tree.leaves_with_path(nnx.to_pure_dict(params))
    names = [_name(keys) for keys, _ in flat]
    # Those that are not read, if any, come last.
    order = [first_read.get(v, len(jaxpr.eqns)) for v in jaxpr.invars[: len(names)]]
    return tuple(name for _, name in sorted(zip(order, names, strict=True)))
