"""CLIP's ResNet in plain torch with OpenAI's names, and archives like theirs."""

import torch
from torch import nn


def conv(features_in, features, size, stride=1):
    padding = size // 2
    return nn.Conv2d(features_in, features, size, stride, padding, bias=False)


class Bottleneck(nn.Module):
    def __init__(self, features_in, inner, stride):
        super().__init__()
        features = 4 * inner
        self.conv1, self.bn1 = conv(features_in, inner, 1), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = conv(inner, inner, 3), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = conv(inner, features, 1), nn.BatchNorm2d(features)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample = nn.Identity()
        if stride > 1 or features_in != features:
            self.downsample = nn.Sequential()
            self.downsample.add_module("-1", self.pool)
            self.downsample.add_module("0", conv(features_in, features, 1))
            self.downsample.add_module("1", nn.BatchNorm2d(features))

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.pool(self.bn2(self.conv2(y)).relu())
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


class AttentionPool(nn.Module):
    def __init__(self, side, width, heads, embedding):
        super().__init__()
        positions = torch.randn(side**2 + 1, width) / width**0.5
        self.positional_embedding = nn.Parameter(positions)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in "qkv")
        self.c_proj = nn.Linear(width, embedding)
        self.heads = heads

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positional_embedding
        query, key, value = (
            linear(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for linear, tokens in (
                (self.q_proj, x[:, :1]),
                (self.k_proj, x),
                (self.v_proj, x),
            )
        )
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        return self.c_proj((scores.softmax(-1) @ value).transpose(1, 2).flatten(1))


class ModifiedResNet(nn.Module):
    def __init__(self, depths, stem, image_size, embedding):
        super().__init__()
        half = stem // 2
        self.conv1, self.bn1 = conv(3, half, 3, 2), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = conv(half, half, 3), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(half, stem, 3), nn.BatchNorm2d(stem)
        self.stages, width = len(depths), stem
        for stage, depth in enumerate(depths):
            blocks = nn.Sequential()
            for index in range(depth):
                stride = 2 if stage and not index else 1
                blocks.append(Bottleneck(width, stem * 2**stage, stride))
                width = 4 * stem * 2**stage
            setattr(self, f"layer{stage + 1}", blocks)
        side = image_size // 2 ** (len(depths) + 1)
        self.attnpool = AttentionPool(side, width, width // 64, embedding)

    def feature_map(self, x):
        for index in (1, 2, 3):
            x = getattr(self, f"conv{index}")(x)
            x = getattr(self, f"bn{index}")(x).relu()
        x = nn.functional.avg_pool2d(x, 2)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x

    def forward(self, x):
        return self.attnpool(self.feature_map(x))


class Holder(nn.Module):
    def forward(self, x):
        return x


def save_archive(path, state):
    """A TorchScript archive of these arrays in half precision, as OpenAI's are."""
    root = Holder()
    for name, value in state.items():
        *parents, last = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, Holder())
            module = getattr(module, parent)
        value = value if torch.is_tensor(value) else torch.tensor(value)
        value = value.half() if value.is_floating_point() else value
        module.register_buffer(last, value)
    root.register_buffer("input_resolution", torch.tensor(224))
    torch.jit.script(root).save(path)
    return path
