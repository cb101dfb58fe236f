"""Who takes part? A new mode of FTP, method, model or tree is one line of its table."""

import functools
import importlib
import math
import pathlib
import runpy
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import ftp_optax
from benchmarks.measure import PLAIN, Block, Step, StoppedError
from experiments import methods, models
from experiments.models.backbone import Backbone, Classifier
from experiments.models.weights import load_weights

Params = Any  # nested dicts, float32 leaves
Batch = tuple[jax.Array, jax.Array]  # images (n, side, side, 3), 0 to 255; labels (n,)
Loss = Callable[[Params, Batch], jax.Array]

LEARNING_RATE = 1e-4
CLASSES = 10
EXPLICIT, PUBLISHED = "explicit", "published"
shaped = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)


# ---- Optimizers: plain AdamW, and AdamW within FTP in each mode ----------------------

INT8 = {"displacement_dtype": "int8"}
MODES = {  # arguments of `with_ftp`
    EXPLICIT: {},
    "bfloat16": {"displacement_dtype": "bfloat16"},
    "int8": INT8,
    "implicit": {"anchor": "implicit"},
    "host": INT8 | {"anchor_memory": "pinned_host"},
}


def optimizer(name: str) -> optax.GradientTransformation:
    """Plain AdamW, or AdamW within FTP in that mode."""
    tx = optax.adamw(LEARNING_RATE)
    return tx if name == PLAIN else ftp_optax.with_ftp(tx, **MODES[name])


def updates(
    shapes: Params,
    modes: Sequence[str],
    dtype: str = "float32",
    place: Callable[[jax.Array], jax.Array] = lambda leaf: leaf,
) -> tuple[Params, Params, dict[str, Callable[[], Block]]]:
    """Params, gradients, and what makes each update, of AdamW and of the modes."""
    # Exact in bfloat16, so that a mode may keep less than float32.
    exact = lambda x: place(x.astype("bfloat16").astype(dtype))
    params, grads = (jax.tree.map(exact, drawn(shapes, seed)) for seed in (0, 1))
    makers = {
        name: functools.partial(update_step, optimizer(name), params, grads)
        for name in (PLAIN, *MODES)
        if name in (PLAIN, *modes)
    }
    return params, grads, makers


def update_step(
    tx: optax.GradientTransformation, params: Params, grads: Params
) -> Step:
    """One update, without a model, on a copy of the params."""
    init, step = methods.transformation(tx)
    params = jax.tree.map(jnp.array, params)
    update = lambda params, state, grads: step(grads, state, params, None)
    return Step(update, params, init(params), [grads])


# ---- Methods of fine-tuning, with AdamW; TPGM's step takes a held-out batch ----------

METHODS = {PLAIN: methods.METHODS["fine-tune"]}
METHODS |= {
    name: methods.METHODS[name]
    for name in ("l2-sp", "mars-sp", "mars-pgm", "spd", "ftp", "tpgm")
}
METHODS["digrap"] = METHODS[PLAIN]._replace(
    label="DiGraP",
    rule=lambda adamw, *_: methods.transformation(
        optax.chain(ftp_optax.digrap(), adamw)
    ),
)


def training_step(method: str, loss: Loss, params: Params, *batches: Any) -> Step:
    """A step of training on copies of params, on pairs of a batch and a held-out one.

    It returns `(params, state, loss)`.
    """
    make, strength = METHODS[method].rule, METHODS[method].strength
    adamw = optax.adamw(LEARNING_RATE)
    rule = make(adamw, strength.default if strength else 0.0, methods.Held())

    def step(params: Params, state: Any, batch: Batch, held_out: Batch) -> tuple:
        value, grads = jax.value_and_grad(loss)(params, batch)
        params, state = rule.step(grads, state, params, lambda p: loss(p, held_out))
        return params, state, value

    params = jax.tree.map(jnp.array, params)
    return Step(step, params, rule.init(params), *batches)


LABELS = {name: method.label for name, method in METHODS.items()}
LABELS |= {name: f"FTP {name}" for name in MODES}
LABELS |= {PLAIN: "AdamW", "host": "FTP int8, anchor on host"}
LABELS |= {PUBLISHED: "published (PyTorch)"}


# ---- Models that the methods train ---------------------------------------------------


class ConvNet(Backbone):
    """Three 3 x 3 convolutions, each halved by max pooling."""

    width, dtype = 128, jnp.dtype("float32")

    def __init__(self, *, rngs: nnx.Rngs):
        # A uniform start compiles several times as fast as the usual normal one.
        start = nnx.initializers.lecun_uniform()
        options = {"kernel_size": (3, 3), "kernel_init": start, "rngs": rngs}
        conv = functools.partial(nnx.Conv, **options)
        self.convs = nnx.List([conv(3, 32), conv(32, 64), conv(64, 128)])

    def feature_map(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `(n, side, side, 3)` to features `(n, side / 8, side / 8, c)`."""
        del train
        x = self.standardise(images)
        for conv in self.convs:
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), strides=(2, 2))
        return x


def conv_net(rngs: nnx.Rngs) -> nnx.Module:
    return Classifier(ConvNet(rngs=rngs), CLASSES, rngs=rngs)


known = functools.partial(functools.partial, models.create)
MODELS = {  # a label, a network of `rngs`, and the side of its images in pixels
    "conv": ("Conv net", conv_net, 32),
    "resnet": ("ResNet-18 trunk", known("resnet18-trunk", CLASSES), 96),
    "vit": ("ViT-Ti/16", known("vit-tiny-16", CLASSES, image_size=96), 96),
    # Five times the tokens on the same parameters; seconds a step on two cores.
    "vit-224": ("ViT-Ti/16, 224 px", known("vit-tiny-16", CLASSES), 224),
}


def trained(
    make: Callable[..., Any], weights: pathlib.Path | None = None
) -> tuple[Params, Loss]:
    """Parameters, random or of a file; and the mean cross-entropy over a batch."""
    network = make(rngs=nnx.Rngs(0))
    if weights is not None:
        load_weights(network, weights)
    graph, state = nnx.split(network)

    def loss(params: Params, batch: Batch) -> jax.Array:
        merged: Any = nnx.merge(graph, params)
        logits, labels = merged(batch[0], train=True), batch[1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return nnx.to_pure_dict(state), loss


# ---- Trees that the optimizers update ------------------------------------------------


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


def vit_b() -> Params:
    return jax.eval_shape(lambda: trained(known("vit-base-16", 1000))[0])


TREES = {  # a label, and shapes by name
    "vit-b": ("ViT-B/16", vit_b),
    "leaves-400": ("400 small leaves", functools.partial(small_leaves, 400)),
    "tiny": ("7 small leaves", functools.partial(small_leaves, 7)),
}


def size(tree: Params) -> int:
    """The number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def drawn(shapes: Params, seed: int) -> Params:
    """Arrays of these shapes with normal values, each in a buffer of its own."""
    rng = np.random.default_rng(seed)
    draw = lambda leaf: jnp.array(rng.standard_normal(leaf.shape, np.float32) / 50)
    return jax.tree.map(draw, shapes)


# ---- The published PyTorch step, from a clone of the user's own ----------------------

SOURCE = "https://github.com/GT-RIPL/FTP"  # nothing of it is part of this project


def load_published(clone: pathlib.Path) -> Callable[[Params, Params], Block]:
    """What makes the published AdamW + FTP of params and gradients.

    Raises:
      StoppedError: it cannot be run.
    """
    path = clone / "util" / "FTP.py"
    try:
        torch = importlib.import_module("torch")
        adam_p = runpy.run_path(str(path))["AdamP"]
    except Exception as error:  # whatever is wrong with it
        raise StoppedError(
            f"--reference: expected a clone of {SOURCE}, and torch (pip install -e"
            f" '.[parity]'); {path}: {error!r}"
        ) from error
    return functools.partial(published_step, torch, adam_p)


def published_step(torch: Any, adam_p: Any, params: Params, grads: Params) -> Block:
    """The published step on copies of a tree, laid out as PyTorch has them."""
    weights = [torch.from_numpy(w).requires_grad_() for w in in_torch_layout(params)]
    for weight, grad in zip(weights, in_torch_layout(grads), strict=True):
        weight.grad = torch.from_numpy(grad)
    group = {
        "params": weights,
        "name": [str(i) for i in range(len(weights))],
        "pre": [weight.detach().clone() for weight in weights],
    }
    optimizer = adam_p([group], lr=LEARNING_RATE, weight_decay=1e-4)

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            optimizer.step()
        return (time.perf_counter() - began) / steps

    return run


def in_torch_layout(tree: Params) -> list[np.ndarray]:
    """Copies of the leaves with their rows first: (n,), (out, in), (out, in, h, w)."""
    leaves = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        array, rows = np.asarray(leaf), ftp_optax.flax_axes({name: leaf})[name].rows
        assert not isinstance(rows, int)
        array = np.moveaxis(array, rows, range(len(rows)))
        if array.ndim == 4:  # a convolution's h, w, in
            array = np.moveaxis(array, -1, 1)
        elif name.endswith("kernel"):
            array = array.reshape(len(array), -1)
        leaves.append(np.array(array, order="C"))  # never a view
    return leaves
