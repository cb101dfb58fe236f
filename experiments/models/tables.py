"""What the arrays of published weights are called, and where they belong in a model."""

from experiments.models.rules import (
    Rule,
    Table,
    batch_norm,
    class_token,
    depthwise_kernel,
    fused_bias,
    fused_kernel,
    ignore,
    position_table,
    torch_batch_norm,
    torch_conv,
    torch_layer_norm,
    torch_linear,
)

OWN = Table(
    "this package's own names",
    [Rule("((?:backbone|head)/.+)", r"\1")],
)

_BLOCK = r"layer\d\.\d+"

RESNET_TORCHVISION = Table(
    "a ResNet as torchvision and timm name it",
    [
        *torch_conv(rf"((?:{_BLOCK}\.)?conv\d)", r"backbone/\1"),
        *torch_batch_norm(rf"((?:{_BLOCK}\.)?bn\d)", r"backbone/\1"),
        *torch_conv(rf"({_BLOCK}\.downsample)\.0", r"backbone/\1"),
        *torch_batch_norm(rf"({_BLOCK}\.downsample)\.1", r"backbone/\1_bn"),
        *torch_linear("fc", "head"),
    ],
)


def _transformers_resnet() -> list[Rule]:
    """Stages and convolutions count from 0 there, and from 1 here."""
    stem = r"(?:resnet\.)?embedder\.embedder"
    rules = [
        *torch_conv(rf"{stem}\.convolution", "backbone/conv1"),
        *torch_batch_norm(rf"{stem}\.normalization", "backbone/bn1"),
        *torch_linear(r"classifier\.1", "head"),
    ]
    for stage in range(4):
        block = rf"(?:resnet\.)?encoder\.stages\.{stage}\.layers\.(\d+)"
        path = rf"backbone/layer{stage + 1}/\1"
        for conv in range(3):
            layer = rf"{block}\.layer\.{conv}"
            rules += torch_conv(rf"{layer}\.convolution", f"{path}/conv{conv + 1}")
            rules += torch_batch_norm(
                rf"{layer}\.normalization", f"{path}/bn{conv + 1}"
            )
        shortcut = rf"{block}\.shortcut"
        rules += torch_conv(rf"{shortcut}\.convolution", f"{path}/downsample")
        rules += torch_batch_norm(
            rf"{shortcut}\.normalization", f"{path}/downsample_bn"
        )
    return rules


RESNET_TRANSFORMERS = Table("a ResNet as transformers names it", _transformers_resnet())

_KERAS_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def _keras_mobilenet() -> list[Rule]:
    """Blocks count from 1 there, and from 0 here."""
    rules = [Rule(r"conv1\.kernel", "backbone/conv1/kernel")]
    rules += batch_norm("conv1_bn", "backbone/bn1", _KERAS_NORM)
    for block in range(13):
        path, dw, pw = (
            f"backbone/blocks/{block}",
            f"conv_dw_{block + 1}",
            f"conv_pw_{block + 1}",
        )
        kernel = rf"{dw}\.depthwise_kernel"
        rules += [Rule(kernel, f"{path}/dw/kernel", depthwise_kernel)]
        rules += batch_norm(f"{dw}_bn", f"{path}/dw_bn", _KERAS_NORM)
        rules += [Rule(rf"{pw}\.kernel", f"{path}/pw/kernel")]
        rules += batch_norm(f"{pw}_bn", f"{path}/pw_bn", _KERAS_NORM)
    return rules


def _numbered_mobilenet() -> list[Rule]:
    """Layers by their place in the forward pass: 1, 2 and 15 times 3, and 2 more."""
    paths = ["conv1", "blocks/0/dw", "blocks/0/project"]
    for block in range(1, 17):
        paths += [f"blocks/{block}/{layer}" for layer in ("expand", "dw", "project")]
    paths.append("conv_last")
    rules = [ignore(r"\d\d\.stride_relu6"), ignore(r"52\..*")]  # 52: its 1001 classes
    for index, path in enumerate(paths):
        rules.append(
            Rule(rf"{index:02}\.(?:conv|dw)\.kernel", f"backbone/{path}/kernel")
        )
        rules.append(Rule(rf"{index:02}\.bias", f"backbone/{path}/bias"))
    return rules


MOBILENET_V1 = Table("a MobileNetV1 as Keras names it", _keras_mobilenet())
MOBILENET_V2 = Table(
    "a MobileNetV2 with numbered layers and folded batch norm", _numbered_mobilenet()
)

_QKV = ("query", "key", "value")


def _timm_vit() -> list[Rule]:
    block, path = r"blocks\.(\d+)", r"backbone/blocks/\1"
    qkv = tuple(f"{path}/attention/{name}" for name in _QKV)
    kernels, biases = (tuple(f"{p}/{leaf}" for p in qkv) for leaf in ("kernel", "bias"))
    return [
        Rule("cls_token", "backbone/cls", class_token),
        Rule("pos_embed", "backbone/pos_embed", position_table),
        *torch_conv(r"patch_embed\.proj", "backbone/patches"),
        *torch_layer_norm(rf"{block}\.norm([12])", rf"{path}/norm\2"),
        Rule(rf"{block}\.attn\.qkv\.weight", kernels, fused_kernel),
        Rule(rf"{block}\.attn\.qkv\.bias", biases, fused_bias),
        *torch_linear(rf"{block}\.attn\.proj", f"{path}/attention/out"),
        *torch_linear(rf"{block}\.mlp\.fc1", f"{path}/hidden"),
        *torch_linear(rf"{block}\.mlp\.fc2", f"{path}/out"),
        *torch_layer_norm("norm", "backbone/norm"),
        *torch_linear("head", "head"),
    ]


def _transformers_vit() -> list[Rule]:
    """As files have it, `encoder.layer.0`, and as transformers 5 does in memory."""
    outer = r"(?:vit\.)?"
    block = rf"{outer}(?:encoder\.layer|layers)\.(\d+)"
    path = r"backbone/blocks/\1"
    rules = [
        Rule(rf"{outer}embeddings\.cls_token", "backbone/cls", class_token),
        Rule(
            rf"{outer}embeddings\.position_embeddings",
            "backbone/pos_embed",
            position_table,
        ),
        *torch_conv(
            rf"{outer}embeddings\.patch_embeddings\.projection", "backbone/patches"
        ),
        *torch_layer_norm(rf"{block}\.layernorm_before", f"{path}/norm1"),
        *torch_layer_norm(rf"{block}\.layernorm_after", f"{path}/norm2"),
        *torch_layer_norm(rf"{outer}layernorm", "backbone/norm"),
        *torch_linear("classifier", "head"),
        ignore(rf"{outer}(?:pooler\..*|embeddings\.mask_token)"),
    ]
    linears = {
        r"attention\.(?:output\.dense|o_proj)": "attention/out",
        r"(?:intermediate\.dense|mlp\.fc1)": "hidden",
        r"(?:output\.dense|mlp\.fc2)": "out",
    }
    for name in _QKV:
        pattern = rf"attention\.(?:attention\.{name}|{name[0]}_proj)"
        linears[pattern] = f"attention/{name}"
    for pattern, target in linears.items():
        rules += torch_linear(rf"{block}\.{pattern}", f"{path}/{target}")
    return rules


def _transformers_clip() -> list[Rule]:
    outer = r"(?:vision_model\.)?"
    block = rf"{outer}encoder\.layers\.(\d+)"
    path, embeddings = r"backbone/blocks/\1", rf"{outer}embeddings"
    rules = [
        Rule(rf"{embeddings}\.class_embedding", "backbone/cls", class_token),
        Rule(
            rf"{embeddings}\.position_embedding\.weight",
            "backbone/pos_embed",
            position_table,
        ),
        *torch_conv(rf"{embeddings}\.patch_embedding", "backbone/patches"),
        *torch_layer_norm(rf"{outer}pre_layrnorm", "backbone/pre_norm"),
        *torch_layer_norm(rf"{block}\.layer_norm([12])", rf"{path}/norm\2"),
        *torch_linear(rf"{block}\.self_attn\.out_proj", f"{path}/attention/out"),
        *torch_linear(rf"{block}\.mlp\.fc1", f"{path}/hidden"),
        *torch_linear(rf"{block}\.mlp\.fc2", f"{path}/out"),
        *torch_layer_norm(rf"{outer}post_layernorm", "backbone/norm"),
        ignore(rf"{embeddings}\.position_ids"),
        ignore(r"text_model\..*|(?:text|visual)_projection\.weight|logit_scale"),
    ]
    for name in _QKV:
        pattern = rf"{block}\.self_attn\.{name[0]}_proj"
        rules += torch_linear(pattern, f"{path}/attention/{name}")
    return rules


VIT_TIMM = Table("a vision transformer as timm names it", _timm_vit())
VIT_TRANSFORMERS = Table(
    "a vision transformer as transformers names it", _transformers_vit()
)
CLIP_TRANSFORMERS = Table(
    "the visual tower of CLIP as transformers names it", _transformers_clip()
)

TABLES: dict[str, tuple[Table, ...]] = {
    "small": (),
    "resnet": (RESNET_TORCHVISION, RESNET_TRANSFORMERS),
    "resnet-nf": (RESNET_TORCHVISION, RESNET_TRANSFORMERS),
    "mobilenet-v1": (MOBILENET_V1,),
    "mobilenet-v2": (MOBILENET_V2,),
    "vit": (VIT_TIMM, VIT_TRANSFORMERS),
    "clip": (CLIP_TRANSFORMERS,),
}
"""Tables by a backbone's `family`; `OWN` serves every family."""
