import pathlib
import pickle
import sys

import numpy as np
import pytest

pytest.importorskip("flax", reason="needs the extra `experiments`")

from flax import nnx

from experiments import models
from experiments.models import backbone
from experiments.models.naming import Rule
from experiments.models.weights import WeightsError, load_weights

TRUNK = "resnet18-trunk"


def create(name=TRUNK, seed=0, classes=4, **options):
    return models.create(name, classes, rngs=nnx.Rngs(seed), **options)


def arrays_of(model):
    leaves = backbone.names_and_leaves(model)
    return {name: np.asarray(leaf) for name, leaf in leaves.items()}


def torchvision_arrays(name=TRUNK):
    """A ResNet under torchvision's names, as (h, w, in, out), of another seed."""
    return {
        name.removeprefix("backbone/")
        .replace("downsample", "downsample.0")
        .replace("kernel", "weight")
        .replace("/", "."): array
        for name, array in arrays_of(create(name, seed=1)).items()
        if name.startswith("backbone/")
    }


def save(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        numpy = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
        numpy.save_file({k: v.copy() for k, v in arrays.items()}, path)
    else:
        torch = pytest.importorskip("torch", reason="needs torch of the extra `parity`")
        torch.save({k: torch.from_numpy(v.copy()) for k, v in arrays.items()}, path)
    return path


def assert_backbone(model, arrays):
    for name, leaf in arrays_of(model).items():
        if name.startswith("backbone/"):
            np.testing.assert_array_equal(leaf, arrays[name], err_msg=name)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt", ".pth", ".bin"])
def test_every_format_gives_back_what_was_saved(tmp_path, suffix):
    expected = arrays_of(create(seed=1))
    path = save(tmp_path / f"weights{suffix}", torchvision_arrays())
    model = create()
    load_weights(model, path)
    assert_backbone(model, expected)


@pytest.mark.parametrize("name", ["mobilenet-v1", "resnet18"])
def test_a_model_under_its_own_names_is_restored_with_statistics(tmp_path, name):
    arrays = arrays_of(create(name, seed=1))
    means = [n for n in arrays if n.endswith("/mean")]
    assert means
    for n in means:
        arrays[n] = arrays[n] + 0.5
    model = create(name)
    load_weights(model, save(tmp_path / "own.npz", arrays))
    assert_backbone(model, arrays)


def test_a_head_is_loaded_where_it_fits_and_left_alone_where_not(tmp_path):
    arrays = torchvision_arrays()
    arrays["fc.weight"] = np.ones((4, 256), np.float32)
    arrays["fc.bias"] = np.ones(4, np.float32)
    path = save(tmp_path / "with_head.npz", arrays)
    fits, differs = create(classes=4), create(classes=5)
    load_weights(fits, path)
    load_weights(differs, path)
    assert np.all(fits.head.kernel[...] == 1)
    assert not np.any(differs.head.kernel[...])


def test_half_precision_is_read_as_float32(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch of the extra `parity`")
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    arrays = {
        name: torch.from_numpy(array.copy()).to(torch.bfloat16)
        for name, array in torchvision_arrays().items()
    }
    torch.save(arrays, tmp_path / "half.pt")
    safetensors.save_file(arrays, tmp_path / "half.safetensors")
    one, other = create(), create()
    load_weights(one, tmp_path / "half.pt")
    load_weights(other, tmp_path / "half.safetensors")
    assert_backbone(one, arrays_of(other))
    assert one.backbone.conv1.kernel.dtype == np.float32


def test_a_table_of_ones_own_may_be_given(tmp_path):
    own = {f"my.{n}": a for n, a in torchvision_arrays().items()} | {
        "step": np.zeros(())
    }
    path = save(tmp_path / "own.npz", own)
    table = [
        Rule("step", ()),
        Rule(r"my\.(.*)\.downsample\.0\.weight", r"backbone/\1/downsample/kernel"),
        Rule(r"my\.(.*)\.downsample\.0\.bias", r"backbone/\1/downsample/bias"),
        Rule(r"my\.(.*)\.weight", r"backbone/\1/kernel"),
        Rule(r"my\.(.*)\.bias", r"backbone/\1/bias"),
    ]
    model = create()
    load_weights(model, path, table)
    assert_backbone(model, arrays_of(create(seed=1)))
    with pytest.raises(WeightsError, match=r"no place in the model for: step"):
        load_weights(model, path, table[1:])


def test_missing_unused_and_misshapen_arrays_are_named(tmp_path):
    arrays = torchvision_arrays()
    del arrays["layer2.0.conv1.bias"]
    arrays["layer9.0.conv1.bias"] = np.zeros(3, np.float32)
    arrays["conv1.bias"] = np.zeros(7, np.float32)
    model = create()
    before = arrays_of(model)
    with pytest.raises(WeightsError) as error:
        load_weights(model, save(tmp_path / "wrong.npz", arrays))
    message = str(error.value)
    assert "missing in the file: backbone/layer2/0/conv1/bias\n" in message
    assert "no place in the model for: layer9.0.conv1.bias\n" in message
    assert "shapes differ: conv1.bias (7,) for backbone/conv1/bias (64,)\n" in message
    assert_backbone(model, before)


def test_a_trunk_takes_the_weights_of_the_whole_network(tmp_path):
    path = save(tmp_path / "whole.npz", torchvision_arrays("resnet18-nf"))
    model = create()
    load_weights(model, path)
    assert_backbone(model, arrays_of(create("resnet18-nf", seed=1)))


def test_weights_of_another_architecture_are_recognised(tmp_path):
    path = save(tmp_path / "resnet.npz", torchvision_arrays())
    with pytest.raises(WeightsError, match=r"expected a MobileNetV1 .* like a ResNet"):
        load_weights(create("mobilenet-v1"), path)
    with pytest.raises(WeightsError, match=r"does not fit the ResNet\n  missing .*bn1"):
        load_weights(create("resnet18"), path)
    path = save(tmp_path / "unknown.npz", {"x": np.zeros(1)})
    with pytest.raises(WeightsError, match=r"expected a ResNet .* It holds: x\."):
        load_weights(create(), path)


class Malicious:
    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path("was-run"),))


def test_pickled_code_is_never_run(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs torch of the extra `parity`")
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "hook": Malicious()}, "code.pth")
    np.savez("code.npz", x=np.array([Malicious()], object))
    pathlib.Path("plain.pt").write_bytes(pickle.dumps(Malicious()))
    for name in ("code.pth", "code.npz", "plain.pt"):
        with pytest.raises(WeightsError, match=name):
            load_weights(create(), name)
    assert not pathlib.Path("was-run").exists()
    with pytest.raises(WeightsError, match="pickled code is never run"):
        load_weights(create(), "code.pth")


def test_without_torch_a_torch_file_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(WeightsError, match="pip install torch"):
        load_weights(create(), path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_damaged_and_missing_files_are_named(tmp_path, suffix):
    path = tmp_path / f"damaged{suffix}"
    with pytest.raises(WeightsError, match="there is no such file"):
        load_weights(create(), path)
    path.write_bytes(b"this is no such file")
    with pytest.raises(WeightsError, match=path.name):
        load_weights(create(), path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"expected a file of weights, \.npz"):
        load_weights(create(), tmp_path / "weights.h5")
