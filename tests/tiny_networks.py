"""The networks of the experiments, small, for tests that compare or load them."""

import functools
import re

import numpy as np
from flax import nnx

from experiments.models import backbone, clip, mobilenet, resnet, swin, vit

CLASSES = 3
RESNET = {"depths": (1, 2), "stem": 8}
VIT = {"width": 24, "depth": 2, "heads": 3, "image_size": 48}
CLIP_RESNET = {"depths": (1, 2), "stem": 8, "embedding": 12, "image_size": 48}
SWIN = {"width": 8, "depths": (2, 2, 2), "heads": (1, 2, 4), "window": 4}

NETWORKS = {
    "resnet": functools.partial(resnet.ResNet, widths=[8, 16], **RESNET),
    "bottleneck": functools.partial(
        resnet.ResNet, widths=[32, 64], bottleneck=True, **RESNET
    ),
    "vit": functools.partial(vit.ViT, **VIT),
    "swin": functools.partial(swin.Swin, **SWIN),
    "clip": functools.partial(clip.VisualTower, embedding=12, **VIT),
    "clip_resnet": functools.partial(clip.VisualResNet, **CLIP_RESNET),
    "mobilenet": mobilenet.MobileNetV1,
}


def tiny(name, classes=CLASSES, seed=0, **options):
    """A classifier of random weights, norms and statistics the identity."""

    def make():
        network = NETWORKS[name](rngs=nnx.Rngs(0), **options)
        return backbone.Classifier(network, classes, rngs=nnx.Rngs(0))

    return backbone.drawn(make, seed)


def arrays_of(model):
    leaves = backbone.names_and_leaves(model)
    return {name: np.asarray(leaf) for name, leaf in leaves.items()}


def assert_same(model, arrays, beginning=""):
    """The model's arrays under this beginning of a name are these."""
    for name, leaf in arrays_of(model).items():
        if name.startswith(beginning):
            np.testing.assert_array_equal(leaf, arrays[name], err_msg=name)


# ---- What others call the same arrays ----------------------------------------------

_TIMM = (
    (r"^cls$", "cls_token"),
    (r"patches", "patch_embed/proj"),
    (r"attention/out", "attn/proj"),
    (r"attention", "attn"),
    (r"hidden", "mlp/fc1"),
    (r"(\d+/)out", r"\1mlp/fc2"),
)
_SWIN = (
    (r"bias_table", "attn/relative_position_bias_table"),
    (r"stages/(\d+)/", r"layers/\1/blocks/"),
    (r"patch_norm", "patch_embed/norm"),
    *_TIMM,
)
_OPENAI = (
    (r"pos_embed", "positional_embedding"),
    (r"norm(\d)", r"ln_\1"),
    (r"attention/out", "attn/out_proj"),
    (r"attention", "attn"),
    (r"hidden", "mlp/c_fc"),
    (r"(\d+/)out", r"\1mlp/c_proj"),
    (r"^blocks", "transformer/resblocks"),
)
# Replacements in our names without `backbone/`, one after the other.
RENAMED = {
    "timm": _TIMM,
    "Swin": ((r"merges/(\d+)", r"layers/\1/downsample"), *_SWIN),
    "timm's Swin": (
        (r"merges/(\d+)", lambda m: f"layers/{int(m[1]) + 1}/downsample"),
        (r"^head", "head/fc"),
        *_SWIN,
    ),
    "timm's CLIP": ((r"pre_norm", "norm_pre"), *_TIMM),
    "OpenAI": (
        (r"^cls$", "class_embedding"),
        (r"pre_norm", "ln_pre"),
        (r"^norm", "ln_post"),
        (r"patches", "conv1"),
        (r"projection/kernel", "proj"),
        *_OPENAI,
        (r"^", "visual/"),
    ),
    "OpenAI's texts": (
        (r"tokens/embedding", "token_embedding/weight"),
        (r"^norm", "ln_final"),
        (r"projection/kernel", "text_projection"),
        *_OPENAI,
    ),
    "timm's CLIP ResNet": (
        (r"^conv(\d)", r"stem/conv\1/conv"),
        (r"^bn(\d)", r"stem/conv\1/bn"),
        (r"(\d/)(conv|bn)([13])", r"\1conv\3_1x1/\2"),
        (r"(\d/)(conv|bn)2", r"\1conv2_kxk/\2"),
        (r"downsample_bn", "shortcut/conv/bn"),
        (r"downsample", "shortcut/conv/conv"),
        (r"^layer(\d)", lambda m: f"stages/{int(m[1]) - 1}"),
        (r"^pool/out", "head/proj"),
        (r"^pool/(.)\w+", r"head/\1"),
        (r"^pos_embed", "head/pos_embed"),
        (r"(mean|var)$", r"running_\1"),
    ),
    "torchvision": (
        (r"downsample_bn", "downsample/1"),
        (r"downsample/(?=kernel|bias$)(?<!1/)", "downsample/0/"),
        (r"^head", "fc"),
        (r"(mean|var)$", r"running_\1"),
    ),
    "big_vision": (
        (r"blocks/", "Transformer/encoderblock_"),
        (r"norm1", "LayerNorm_0"),
        (r"norm2", "LayerNorm_2"),
        (r"attention", "MultiHeadDotProductAttention_1"),
        (r"hidden", "MlpBlock_3/Dense_0"),
        (r"(block_\d+/)out", r"\1MlpBlock_3/Dense_1"),
        (r"^norm", "Transformer/encoder_norm"),
        (r"patches", "embedding"),
        (r"pos_embed", "Transformer/posembed_input/pos_embedding"),
    ),
    "Keras": (
        (r"^bn1", "conv1_bn"),
        (r"blocks/(\d+)/(dw|pw)", lambda m: f"conv_{m[2]}_{int(m[1]) + 1}"),
        (r"dw_(\d+)/kernel", r"dw_\1/depthwise_kernel"),
        (r"scale$", "gamma"),
        (r"bias$", "beta"),
        (r"mean$", "moving_mean"),
        (r"var$", "moving_variance"),
    ),
}
HEADLESS = ("Keras", "OpenAI", "timm's CLIP ResNet")


def as_published(naming, model):
    """The arrays of our model as a file of this naming has them."""
    named = {}
    for path, array in arrays_of(model).items():
        name = path.removeprefix("backbone/")
        if name.startswith("head") and naming in HEADLESS:
            continue
        for pattern, replacement in RENAMED[naming]:
            name = re.sub(pattern, replacement, name)
        named[name] = array
    if naming == "big_vision":
        return {name: _with_heads(name, array) for name, array in named.items()}
    named = {name.replace("/", "."): array for name, array in named.items()}
    if naming == "Keras":
        return {
            name: np.swapaxes(array, 2, 3) if "depthwise" in name else array
            for name, array in named.items()
        }
    fused = _fused(dict(map(_of_torch, named.items())))
    if naming.startswith("OpenAI"):
        return {name.replace(".qkv.", ".in_proj_"): a for name, a in fused.items()}
    return fused


def _with_heads(name, array):
    heads = VIT["heads"]
    if re.search(r"(query|key|value)/(kernel|bias)$", name):
        return array.reshape(*array.shape[:-1], heads, -1)
    if re.search(r"Attention_1/out/kernel$", name):
        return array.reshape(heads, -1, array.shape[-1])
    return array


def _of_torch(item):
    name, array = item
    if name.endswith("kernel") and array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    elif name.endswith("kernel"):
        array = array.T
    return re.sub(r"\.(kernel|scale)$", ".weight", name), array


def _fused(arrays):
    """Query, key and value in one, as timm has them."""
    for name in [name for name in arrays if ".query." in name]:
        parts = [
            arrays.pop(name.replace("query", x)) for x in ("query", "key", "value")
        ]
        arrays[name.replace("query", "qkv")] = np.concatenate(parts)
    return arrays
