"""Who takes part? A new method, mode of FTP, model or tree is one line of its table."""

import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import ftp_optax
from experiments import models
from experiments.models.backbone import Backbone, Classifier
from experiments.models.weights import load_weights

Params = Any  # nested dicts, float32 leaves
Batch = tuple[jax.Array, jax.Array]  # images (n, side, side, 3), 0 to 255; labels (n,)
Loss = Callable[[Params, Batch], jax.Array]

LEARNING_RATE = 1e-4
CLASSES = 10
shaped = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
PLAIN, EXPLICIT = "plain", "explicit"


def adamw() -> optax.GradientTransformation:
    """The optimizer that every method stands on."""
    return optax.adamw(LEARNING_RATE)


def update_of(tx: optax.GradientTransformation) -> Callable:
    """`(params, state, grads) -> (params, state)`: the optimizer alone."""
    tx = optax.with_extra_args_support(tx)

    def update(params: Params, state: Any, grads: Params) -> tuple[Params, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return update


class Method(NamedTuple):
    """A way to fine-tune; TPGM takes one iteration on a held-out batch every step."""

    label: str
    tx: optax.GradientTransformation
    tpgm: ftp_optax.TPGM | None = None


METHODS = {
    PLAIN: Method("AdamW", adamw()),
    "l2-sp": Method("L2-SP", optax.chain(ftp_optax.l2_sp(0.01), adamw())),
    "mars-sp": Method("MARS-SP", optax.chain(ftp_optax.mars_sp(0.01), adamw())),
    "mars-pgm": Method("MARS-PGM", optax.chain(adamw(), ftp_optax.mars_pgm(0.1))),
    "digrap": Method("DiGraP", optax.chain(ftp_optax.digrap(), adamw())),
    "spd": Method("SPD", ftp_optax.with_spd(adamw(), 0.5)),
    "ftp": Method("FTP", ftp_optax.with_ftp(adamw())),
    "tpgm": Method("TPGM", adamw(), ftp_optax.tpgm()),
}


def training(method: Method, loss: Loss) -> tuple[Callable, Callable]:
    """`init(params) -> state` and `step(params, state, batch, held-out batch)`.

    A step returns `(params, state, loss)`: in the order in which the first two are
    donated, or every buffer would be copied.
    """
    update, tpgm = update_of(method.tx), method.tpgm

    def init(params: Params) -> Any:
        return method.tx.init(params), tpgm.init(params) if tpgm else ()

    def step(params: Params, state: Any, batch: Batch, held_out: Batch) -> tuple:
        inner, radii = state
        value, grads = jax.value_and_grad(loss)(params, batch)
        params, inner = update(params, inner, grads)
        if tpgm:
            radii = tpgm.update(radii, params, lambda p: loss(p, held_out))
            params = tpgm.project(params, radii)
        return params, (inner, radii), value

    return init, step


class Mode(NamedTuple):
    """A way to run FTP.

    Attributes:
      label: in a table.
      arguments: of `with_ftp`.
      most_state: the target for its state on the device, in copies of float32 params.
    """

    label: str
    arguments: Mapping[str, Any]
    most_state: float


INT8 = {"displacement_dtype": "int8"}
MODES = {
    EXPLICIT: Mode("explicit", {}, 2.0),
    "bfloat16": Mode("bfloat16", {"displacement_dtype": "bfloat16"}, 1.5),
    "int8": Mode("int8", INT8, 1.3),
    "implicit": Mode("implicit", {"anchor": "implicit"}, 1.02),
    "host": Mode("int8, anchor on host", INT8 | {"anchor_memory": "pinned_host"}, 0.3),
}


def optimizer(name: str) -> optax.GradientTransformation:
    """Plain AdamW, or AdamW within FTP in that mode."""
    inner = adamw()
    return (
        inner if name == PLAIN else ftp_optax.with_ftp(inner, **MODES[name].arguments)
    )


class ConvNet(Backbone):
    """Three 3 x 3 convolutions, each halved by max pooling."""

    width, dtype = 128, jnp.dtype("float32")

    def __init__(self, *, rngs: nnx.Rngs):
        # A uniform start compiles several times as fast as the usual normal one.
        start = nnx.initializers.lecun_uniform()
        options = {"kernel_size": (3, 3), "kernel_init": start, "rngs": rngs}
        conv = functools.partial(nnx.Conv, **options)
        self.conv1, self.conv2, self.conv3 = conv(3, 32), conv(32, 64), conv(64, 128)

    def feature_map(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, side, side, 3)` to features `(n, side / 8, side / 8, c)`."""
        del train
        x = self.standardise(images)
        for conv in (self.conv1, self.conv2, self.conv3):
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), strides=(2, 2))
        return x


class Model(NamedTuple):
    """A network, the images it sees, and how many steps make a block of timing."""

    label: str
    make: Callable[..., Any]  # of `rngs`; the head is zero
    side: int  # of the images, in pixels
    steps: int = 1  # so that a block takes some tenths of a second on two cores


def published(name: str, classes: int = CLASSES, **options: Any) -> Callable[..., Any]:
    """Makes a network of `experiments.models.MODELS`."""
    return functools.partial(models.create, name, classes, **options)


MODELS = {
    "conv": Model(
        "Conv net",
        lambda rngs: Classifier(ConvNet(rngs=rngs), CLASSES, rngs=rngs),
        32,
        3,
    ),
    "resnet": Model("ResNet-18 trunk", published("resnet18-trunk"), 96),
    "vit": Model("ViT-Ti/16", published("vit-tiny-16", image_size=96), 96),
    # Five times the tokens on the same parameters; seconds a step on two cores.
    "vit-224": Model("ViT-Ti/16", published("vit-tiny-16"), 224),
}


def functional(
    make: Callable[..., Any], seed: int, weights: pathlib.Path | None = None
) -> tuple[Params, Callable[[Params, jax.Array], jax.Array]]:
    """Parameters, random or of a file, and the network as a function of them.

    It maps images `(n, side, side, 3)` of 0 to 255 to logits.
    """
    network = make(rngs=nnx.Rngs(seed))
    if weights is not None:
        load_weights(network, weights)
    graph, state = nnx.split(network)
    merge: Any = functools.partial(nnx.merge, graph)
    return nnx.to_pure_dict(state), lambda p, images: merge(p)(images, train=True)


def loss_of(logits: Callable[[Params, jax.Array], jax.Array]) -> Loss:
    """Mean cross-entropy over a batch."""
    entropy = optax.softmax_cross_entropy_with_integer_labels
    return lambda params, batch: entropy(logits(params, batch[0]), batch[1]).mean()


class Tree(NamedTuple):
    """What it is called in a table, its shapes by name, and the steps of a block."""

    label: str
    shapes: Callable[[], Params]
    steps: int


def small_leaves(count: int) -> Params:
    """Small leaves of mixed shapes: kernels, biases and convolutions by turns."""
    shapes = ((64, 64), (64,), (3, 3, 16, 32), (128,), (32, 4, 24), (96, 40), (40,))
    kinds = ("kernel", "bias", "kernel", "scale", "kernel", "kernel", "bias")
    places = ("layer", "layer", "layer", "layer", "out", "layer", "layer")
    return {
        f"{places[i % 7]}{i:04}": {kinds[i % 7]: shaped(shapes[i % 7])}
        for i in range(count)
    }


def even(num_params: float, leaves: int) -> Params:
    """Kernels of one size; both axes are multiples of 8, so that devices share them."""
    size = num_params / leaves
    rows = max(8, round(math.sqrt(size) / 8) * 8)
    columns = max(8, round(size / rows / 8) * 8)
    return {f"layer{i:04}": {"kernel": shaped((rows, columns))} for i in range(leaves)}


def size(tree: Params) -> int:
    """The number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def drawn(shapes: Params, seed: int, scale: float) -> Params:
    """Arrays of these shapes with normal values, each in a buffer of its own."""
    rng = np.random.default_rng(seed)
    draw = lambda leaf: jnp.array(rng.standard_normal(leaf.shape, np.float32) * scale)
    return jax.tree.map(draw, shapes)


VIT_B = published("vit-base-16", 1000)
TREES = {
    "vit-b": Tree(
        "ViT-B/16", lambda: jax.eval_shape(lambda: functional(VIT_B, 0)[0]), 2
    ),
    "leaves-400": Tree("400 small leaves", lambda: small_leaves(400), 40),
    "tiny": Tree("7 small leaves", lambda: small_leaves(7), 3),
}
