import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import models
from experiments.models import backbone, layers, mobilenet
from experiments.models.backbone import Classifier, MLPSegmenter, Segmenter
from tiny_networks import tiny

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
SIZED = ("vit-tiny-16", "vit-small-16")
SMALL = ("resnet18-trunk", "resnet18", "resnet18-nf", "mobilenet-v1")


def create(name, head=Classifier, **options):
    options |= {"image_size": 32} if name in SIZED else {}
    return models.create(name, 5, head=head, rngs=nnx.Rngs(0), **options)


def traced(model, shape, images=IMAGES, method="__call__"):
    """Asserts shape and dtype; nothing is compiled."""
    graphdef, state = nnx.split(model)
    y = jax.eval_shape(
        lambda state: getattr(nnx.merge(graphdef, state), method)(images), state
    )
    assert (y.shape, y.dtype) == (shape, jnp.float32)


@pytest.mark.parametrize("name", [*SMALL, "resnet50", "vit-tiny-16", "swin-tiny"])
def test_logits_and_what_the_head_sees_are_float32(name):
    model = create(name, dtype=jnp.bfloat16)
    width = model.backbone.width
    assert model.head.kernel.shape == (width, 5)
    for leaf in jax.tree.leaves(nnx.state(model)):
        assert leaf.dtype == jnp.float32
    traced(model, (2, width), method="features")
    traced(model, (2, 5))
    for head in (Segmenter, MLPSegmenter):
        traced(create(name, head, dtype=jnp.bfloat16), (2, 32, 32, 5))


SMALLER = {
    "clip-resnet50": {"stem": 8, "depths": (1, 1, 1, 1), "embedding": 12},
    "clip-vit-base-16": {"width": 24, "depth": 1, "heads": 3, "projected": True},
    "resnet50": {"stem": 8, "depths": (1, 1, 1, 1)},
    "swin-tiny": {"width": 8, "depths": (1, 1, 2, 1), "heads": (1, 1, 1, 1)},
    "vit-base-16": {"width": 24, "depth": 1, "heads": 3},
}


@pytest.mark.parametrize("name", SMALLER)
def test_a_network_can_be_made_smaller_by_its_options(name):
    sized = {"image_size": 32} if models.is_sized(name) else {}
    for head in (Classifier, Segmenter, MLPSegmenter):
        model = create(name, head, **SMALLER[name], **sized)
        assert sum(x.size for x in jax.tree.leaves(nnx.state(model))) < 1_000_000
        traced(model, (2, 5) if head is Classifier else (2, 32, 32, 5))


def test_segmentation_keeps_the_size_of_images_that_no_stride_divides():
    images = np.zeros((1, 90, 61, 3), np.uint8)
    traced(create("resnet18-trunk", Segmenter), (1, 90, 61, 5), images)


def test_an_all_mlp_head_reads_all_maps_and_is_not_dead():
    model = create("swin-tiny", MLPSegmenter, width=8, heads=(1, 1, 1, 1))
    images = np.zeros((1, 60, 93, 3), np.uint8)
    traced(model, (1, 60, 93, 5), images)
    traced(model, (1, 15, 24, 256), images, "features")
    widths = [x.kernel.shape for x in model.decoder.projections]
    assert widths == [(8, 256), (16, 256), (32, 256), (64, 256)]
    for name, leaf in backbone.names_and_leaves(model).items():
        if name.startswith(("decoder/", "head/")) and name.endswith("kernel"):
            assert np.any(leaf) == name.startswith("decoder/"), name


def test_a_model_that_is_created_under_jit_has_the_same_structure():
    def create():
        return models.create("vit-tiny-16", 3, rngs=nnx.Rngs(0), image_size=16)

    traced = nnx.eval_shape(create)
    assert nnx.graphdef(traced) == nnx.graphdef(create())


@pytest.mark.parametrize("name", ["resnet18-nf", "resnet50-nf", "resnet18-trunk"])
def test_norm_free_networks_have_biases_and_no_statistics(name):
    names = set(backbone.names_and_leaves(create(name)))
    assert not any("bn" in name for name in names)
    kernels = {name for name in names if name.endswith("/kernel")}
    assert {name.replace("/kernel", "/bias") for name in kernels} <= names


def test_layers_come_in_forward_order():
    trunk = models.layer_names(create("resnet18-trunk"))
    kernels = [name.split("/", 1)[1] for name in trunk if name.endswith("kernel")]
    assert kernels[:3] == ["conv1/kernel"] + [
        f"layer1/0/conv{i}/kernel" for i in (1, 2)
    ]
    assert kernels[5:8] == [
        f"layer2/0/{layer}/kernel" for layer in ("conv1", "conv2", "downsample")
    ]
    assert trunk[-2:] == ("head/kernel", "head/bias")
    layers = models.layer_names(create("mobilenet-v1"))
    blocks = [int(name.split("/")[2]) for name in layers if "blocks" in name]
    assert blocks == sorted(blocks)
    assert set(blocks) == set(range(13))


@pytest.mark.parametrize("name", ["resnet18", "vit-tiny-16"])
def test_layers_are_the_names_of_the_library(name):
    model = create(name)
    params = nnx.state(model, nnx.Param)
    names = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(params)}
    assert sorted(models.layer_names(model)) == sorted(names)


def test_training_moves_the_running_statistics_and_evaluation_does_not():
    block = backbone.drawn(
        lambda: mobilenet.SeparableBlock(4, 6, 1, dtype=jnp.float32, rngs=nnx.Rngs(0)),
        seed=0,
    )
    x = 3 + np.random.default_rng(0).normal(size=(8, 4, 4, 4)).astype(np.float32)
    evaluated = block(x, train=False)
    np.testing.assert_array_equal(block.dw_bn.mean[...], np.zeros(4))
    trained = block(x, train=True)
    np.testing.assert_allclose(
        block.dw_bn.mean[...], 0.1 * block.dw(x).mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )
    assert np.abs(trained - evaluated).max() > 0.1


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 7, 5, 3), (1, 34, 34, 2)])
def test_nine_products_are_a_grouped_convolution(shape, stride):
    random = np.random.default_rng(0)
    x = random.normal(size=shape).astype(np.float32)
    kernel = random.normal(size=(3, 3, 1, shape[-1])).astype(np.float32)

    def grouped(x, kernel):
        return jax.lax.conv_general_dilated(
            *(x, kernel, (stride, stride), "SAME"),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=shape[-1],
        )

    def with_gradients(f):
        y = jax.eval_shape(f, x, kernel)
        cotangent = random.normal(size=y.shape).astype(np.float32)
        return jax.jit(lambda: (f(x, kernel), *jax.vjp(f, x, kernel)[1](cotangent)))()

    def ours(x, kernel):
        return layers.depthwise(x, kernel, stride)

    random = np.random.default_rng(1)
    expected = with_gradients(grouped)
    random = np.random.default_rng(1)
    for one, other in zip(with_gradients(ours), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["small", "resnet18-trunk", "mobilenet-v1", "vit-tiny-16"]
)
def test_other_devices_than_cpus_compute_the_same_by_plain_operations(
    name, monkeypatch
):
    model = create(name, **({"image_size": 32} if name == "small" else {}))
    graphdef, state = nnx.split(model)
    cast = jax.tree.map(np.asarray, state)

    def features(state, images):
        return nnx.merge(graphdef, state).features(images)

    ours = jax.jit(features)(cast, IMAGES)
    monkeypatch.setattr(layers, "on_cpu", lambda: False)
    jaxpr = str(jax.make_jaxpr(lambda state: features(state, IMAGES))(cast))
    assert "conv_general_dilated" in jaxpr
    plain = jax.jit(lambda state: features(state, IMAGES))(cast)
    np.testing.assert_allclose(plain, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [8, 9])
def test_max_pooling_is_that_of_reduce_window(side):
    x = np.random.default_rng(0).uniform(size=(2, side, side, 3)).astype(np.float32)
    expected = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    np.testing.assert_array_equal(layers.max_pool(x), expected)


def test_a_dropped_path_leaves_out_whole_examples_and_keeps_the_mean():
    x = np.ones((4000, 2, 1), np.float32)
    kept = np.asarray(layers.drop_path(x, 0.25, jax.random.key(0)))
    np.testing.assert_array_equal(kept[:, 0], kept[:, 1])
    assert set(np.unique(kept)) == {np.float32(0), np.float32(4 / 3)}
    assert abs(kept.mean() - 1) < 0.03
    assert layers.drop_path(x, 0.25, None) is x


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_paths_are_dropped_with_a_key_and_the_more_the_deeper(name):
    model, plain = tiny(name, drop_path=0.5), tiny(name)
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8)
    blocks = [b for _, b in nnx.iter_graph(model) if isinstance(b, layers.EncoderBlock)]
    rates = sorted(block.drop_path for block in blocks)
    np.testing.assert_allclose(rates, np.linspace(0, 0.5, len(blocks)))
    one, other = jax.random.split(jax.random.key(0))
    features = jax.jit(model.features)
    dropped = features(images, rng=one)
    np.testing.assert_array_equal(dropped, features(images, rng=one))
    assert np.any(dropped != features(images, rng=other))
    np.testing.assert_array_equal(features(images), jax.jit(plain.features)(images))


def test_images_of_another_size_are_refused():
    model = create("vit-tiny-16")
    with pytest.raises(ValueError, match="expected 32 x 32 pixels"):
        model(np.zeros((1, 48, 48, 3), np.uint8))


def test_pixels_are_standardised_by_the_network():
    colours = {"mean": (0.6, 0.5, 0.4), "std": (0.3, 0.2, 0.1)}
    network = create("resnet18-trunk", **colours).backbone
    grey = np.full((1, 2, 2, 3), 153, np.uint8)  # 0.6 of 255
    pixels = network.standardise(grey)
    np.testing.assert_allclose(pixels[0, 0, 0], (0.0, 0.5, 2.0), atol=1e-5)
    np.testing.assert_array_equal(pixels, network.standardise(grey.astype(np.float32)))
    white = create("resnet18-trunk").backbone.standardise(np.full((1, 1, 1, 3), 255))
    np.testing.assert_allclose(white[0, 0, 0], [2.2489, 2.4286, 2.64], 1e-4)
