"""What fills a model, and every file that does not, with the words that say why."""

import io
import json
import pathlib
import pickle
import struct
import sys
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from flax import nnx

from experiments import models
from experiments.models import backbone
from experiments.models.naming import Rule
from experiments.models.weights import WeightsError, load_weights
from tiny_networks import HEADLESS, arrays_of, as_published, assert_same, tiny

SUFFIXES = [".npz", ".safetensors", ".pt", ".pth", ".bin", ".tar"]


def torch():
    return pytest.importorskip("torch", reason="needs torch of the extra `parity`")


def save(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        numpy = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
        numpy.save_file({k: v.copy() for k, v in arrays.items()}, path)
    else:
        torch().save({k: tensor_of(v) for k, v in arrays.items()}, path)
    return path


def tensor_of(array):
    return torch().from_numpy(array.copy())


def by_columns(path, arrays):
    return save(path, {name: np.asfortranarray(a) for name, a in arrays.items()})


def parameters(path, arrays):
    """As training scripts of torch keep a module that runs in parallel."""
    make = torch().nn.Parameter
    tensors = {f"module.{n}": make(tensor_of(a)) for n, a in arrays.items()}
    torch().save({"epoch": 3, "state_dict": tensors}, path)
    return path


@pytest.mark.parametrize(("file", "write"), [
    *((f"weights{suffix}", save) for suffix in SUFFIXES),
    ("columns.npz", by_columns),
    ("parameters.pth", parameters),
])  # fmt: skip
def test_every_format_gives_back_what_was_saved(tmp_path, file, write):
    arrays = arrays_of(tiny("resnet", seed=1))
    model = tiny("resnet")
    load_weights(model, write(tmp_path / file, arrays))
    assert_same(model, arrays)


@pytest.mark.parametrize(("naming", "name"), [
    (None, "mobilenet"),
    (None, "bottleneck"),
    (None, "clip"),
    ("timm", "vit"),
    ("torchvision", "resnet"),
    ("torchvision", "bottleneck"),
    ("big_vision", "vit"),
    ("Swin", "swin"),
    ("timm's Swin", "swin"),
    ("OpenAI", "clip"),
    ("timm's CLIP", "clip"),
    ("timm's CLIP ResNet", "clip_resnet"),
    ("Keras", "mobilenet"),
])  # fmt: skip
def test_published_names_give_back_the_network(tmp_path, naming, name):
    source = tiny(name, seed=1)
    backbone.replace(source, lambda path, leaf: leaf + (leaf.ndim == 1) / 2)
    arrays = as_published(naming, source) if naming else arrays_of(source)
    model = tiny(name)
    load_weights(model, save(tmp_path / "weights.npz", arrays))
    assert_same(model, arrays_of(source), "backbone/" if naming in HEADLESS else "")


def swin_of_22k(torch, model):
    """Of the model for 22k classes, with the buffers of the authors' code."""
    arrays = as_published("Swin", tiny("swin", classes=218, seed=1))
    state = {name: tensor_of(array) for name, array in arrays.items()}
    attention = "layers.0.blocks.1.attn"
    state[f"{attention}.relative_position_index"] = torch.arange(256).reshape(16, 16)
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    return {"model": state}


def moco(torch, model):
    """With the projector in place of a head, a second encoder and a predictor."""
    arrays = as_published("torchvision", model)
    state = {"module.predictor.0.weight": torch.ones(4, 4)}
    for encoder, factor in (("base", 1), ("momentum", 2)):
        state[f"module.{encoder}_encoder.fc.0.weight"] = torch.ones(4, 4)
        state |= {
            f"module.{encoder}_encoder.{name}": factor * tensor_of(array)
            for name, array in arrays.items()
            if not name.startswith("fc.")
        }
    count = "module.base_encoder.bn1.num_batches_tracked"
    state[count] = torch.tensor(3)
    return {"epoch": 1000, "arch": "resnet50", "state_dict": state, "optimizer": {}}


DISTRIBUTED = {
    "swin_tiny_22k.pth": ("swin", swin_of_22k),
    "r-50-1000ep.pth.tar": ("bottleneck", moco),
}


@pytest.mark.parametrize("file", DISTRIBUTED)
def test_a_file_loads_as_its_authors_distribute_it(tmp_path, file):
    name, make = DISTRIBUTED[file]
    torch().save(make(torch(), tiny(name, seed=1)), tmp_path / file)
    model = tiny(name)
    load_weights(model, tmp_path / file)
    assert_same(model, arrays_of(tiny(name, seed=1)), "backbone/")


def test_position_tables_are_interpolated_to_another_image_size(tmp_path):
    source = tiny("vit", image_size=64)
    ramp = np.arange(4.0).repeat(4)[:, None]  # over the rows of the 4 x 4 grid
    table = np.array(source.backbone.pos_embed[...])
    table[0, 1:] = ramp
    source.backbone.pos_embed[...] = table
    model = tiny("vit", image_size=128)
    path = save(tmp_path / "vit.npz", as_published("timm", source))
    load_weights(model, path)
    positions = np.asarray(model.backbone.pos_embed[...])
    np.testing.assert_allclose(positions[0, 0], table[0, 0], 1e-6)
    grid = positions[0, 1:].reshape(8, 8, -1)
    np.testing.assert_allclose(grid[3:5, 2, 0], [1.25, 1.75], atol=0.02)
    np.testing.assert_allclose(grid, grid[:, :1, :1].repeat(8, 1).repeat(24, 2), 1e-4)


def test_a_head_is_loaded_where_it_fits_and_left_alone_where_not(tmp_path):
    arrays = {n: a + 1 for n, a in arrays_of(tiny("vit", classes=4)).items()}
    path = save(tmp_path / "with_head.npz", arrays)
    fits, differs = tiny("vit", classes=4), tiny("vit", classes=5)
    load_weights(fits, path)
    load_weights(differs, path)
    assert np.all(fits.head.kernel[...] == 1)
    assert not np.any(differs.head.kernel[...])
    assert not np.any(differs.head.bias[...])


def test_half_precision_is_read_as_float32(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    model = tiny("vit", seed=1)
    arrays = {
        name: tensor_of(array).to(torch().bfloat16)
        for name, array in arrays_of(model).items()
    }
    torch().save(arrays, tmp_path / "half.pt")
    safetensors.save_file(arrays, tmp_path / "half.safetensors")
    one, other = tiny("vit"), tiny("vit")
    load_weights(one, tmp_path / "half.pt")
    load_weights(other, tmp_path / "half.safetensors")
    assert_same(one, arrays_of(other))
    positions = one.backbone.pos_embed[...]
    np.testing.assert_allclose(positions, model.backbone.pos_embed[...], 0.01)
    assert positions.dtype == np.float32


def test_a_table_of_ones_own_may_be_given(tmp_path):
    arrays = arrays_of(tiny("vit", seed=1))
    own = {f"my/{n}": a for n, a in arrays.items()} | {"step": np.zeros((), int)}
    path = save(tmp_path / "own.npz", own)
    table = [Rule("step", ()), Rule("my/(.*)", r"\1")]
    model = tiny("vit")
    load_weights(model, path, table)
    assert_same(model, arrays)
    with pytest.raises(WeightsError, match=r"no place in the model for: step"):
        load_weights(model, path, table[1:])


def test_the_folder_of_a_save_pretrained_is_read(tmp_path):
    arrays = arrays_of(tiny("vit", seed=1))
    (tmp_path / "config.json").write_text("{}")
    save(tmp_path / "model.safetensors", arrays)
    model = tiny("vit")
    load_weights(model, tmp_path)
    assert_same(model, arrays)


def test_a_trunk_takes_the_weights_of_the_whole_network(tmp_path):
    whole = models.create("resnet18-nf", 4, rngs=nnx.Rngs(1))
    path = save(tmp_path / "whole.npz", as_published("torchvision", whole))
    model = models.create("resnet18-trunk", 4, rngs=nnx.Rngs(0))
    load_weights(model, path)
    assert_same(model, arrays_of(whole), "backbone/")


# ---- Files that do not fit ---------------------------------------------------------

KEY, NORM = "backbone/cls", "backbone/bn1/var"
FIRST = "backbone/blocks/0/attention/key/bias"
SHAPE = (1, 1, 24)  # of KEY


def changed(key, value):
    """A good file but for one array, made of the one that was there; `None`: gone."""

    def make(path, arrays):
        arrays = arrays | {key: value(arrays.get(key))}
        save(path, {name: a for name, a in arrays.items() if a is not None})

    return make


def full(value):
    return changed(KEY, lambda _: np.full(SHAPE, value, getattr(value, "dtype", None)))


def shaped(key, *shape):
    return changed(key, lambda _: np.zeros(shape, np.float32))


def edited(change, save=np.savez):
    """The bytes of a good npz, changed."""

    def make(path, arrays):
        save(good := io.BytesIO(), **arrays)
        path.write_bytes(change(good.getvalue()))

    return make


def with_field(local, value):
    """Sets a field of the first member's zip headers, at `local` in one of them."""

    def change(data):
        data = bytearray(data)
        for signature, offset in ((b"PK\3\4", local), (b"PK\1\2", local + 2)):
            struct.pack_into("<H", data, data.index(signature) + offset, value)
        return bytes(data)

    return edited(change)


def flipped(start):
    """Four bytes of the first array's numbers, wherever they are."""

    def change(data):
        place = data.index(b".npy") + start
        middle = bytes(255 - byte for byte in data[place : place + 4])
        return data[:place] + middle + data[place + 4 :]

    return change


def announced(*shape, mebibytes=0, compression=zipfile.ZIP_DEFLATED):
    """A good npz but for one array, with as many numbers as it likes."""

    def make(path, arrays):
        np.savez(path, **{name: a for name, a in arrays.items() if name != KEY})
        entry = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head := io.BytesIO(), entry)
        with (
            zipfile.ZipFile(path, "a", compression) as file,
            file.open(f"{KEY}.npy", "w") as member,
        ):
            member.write(head.getvalue())
            for _ in range(mebibytes):
                member.write(bytes(1 << 20))

    return make


def safetensors(kind, size):
    def make(path, arrays):
        entry = {"dtype": kind, "shape": SHAPE, "data_offsets": [0, size]}
        head = json.dumps({KEY: entry}).encode()
        path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(size))

    return make


def saved(make):
    """What torch saves, made of torch."""

    def write(path, arrays):
        with warnings.catch_warnings(action="ignore"):  # of formats in beta
            torch().save(make(torch()), path)

    return write


def tensor(make):
    return saved(lambda torch: {KEY: make(torch)})


def scripted(path, arrays):
    with warnings.catch_warnings(action="ignore"):
        torch().jit.script(torch().nn.Linear(2, 2)).save(path)


def deflated(path, arrays):
    torch().save({KEY: torch().ones(2)}, good := io.BytesIO())
    with zipfile.ZipFile(good) as stored, zipfile.ZipFile(path, "w", 8) as file:
        for name in stored.namelist():
            file.writestr(name, stored.read(name))


class Malicious:
    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path("was-run"),))


def malicious(path, arrays):
    path.write_bytes(pickle.dumps({KEY: Malicious()}))


NOT_FINITE = f"{KEY} holds NaN or infinity"
KIND = f"expected floating-point numbers: {KEY} "
DIFFER = "shapes differ: "
NO_CODE = "holds more than tensors, and pickled code is never run"
OUT = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/out/kernel"
QKV, POSITIONS = "blocks.0.attn.qkv.weight", "pos_embed"
NO_SAFETENSORS = "cannot be read as .safetensors: "
ZIP, NO_ZIP = "it cannot be read as .npz: ", "File is not a zip file"

NETWORK_OF = {"timm": "vit", "big_vision": "vit", "torchvision": "resnet"}
# Of each file that should hold a ViT: how it is made, of a path and of arrays that
# would do; and words of the error.
HOSTILE = {
    # Numbers that are none.
    "nan.npz": (full(np.nan), NOT_FINITE),
    "inf.npz": (full(np.inf), NOT_FINITE),
    "beyond float32.npz": (full(1e300), NOT_FINITE),
    "nan.safetensors": (full(np.nan), NOT_FINITE),
    "strings.npz": (full("a"), f"{KIND}(str32)"),
    "complex.npz": (full(1j), f"{KIND}(complex128)"),
    "records.npz": (full(np.zeros((), "f4,f4")), f"{KIND}(void64)"),
    "dates.npz": (full(np.datetime64("2020")), f"{KIND}(datetime64[Y])"),
    "integers.npz": (full(np.int8(1)), f"{KIND}(int8)"),
    "code.npz": (changed(KEY, lambda _: np.full(SHAPE, Malicious())), "(object)"),
    "fp8.safetensors": (safetensors("F8_E4M3", 24), f"{KIND}(F8_E4M3)"),
    "fp4.safetensors": (safetensors("F4", 12), f"{KIND}(F4)"),
    "fp8.pt": (tensor(lambda t: t.ones(SHAPE).to(t.float8_e4m3fn)), "(float8_e4"),
    "sparse.pt": (tensor(lambda t: t.ones(SHAPE).to_sparse()), "sparse_coo"),
    "meta.pt": (tensor(lambda t: t.ones(SHAPE, device="meta")), f"{KIND}(meta)"),
    "quantised.pt": (
        tensor(lambda t: t._empty_affine_quantized(SHAPE, scale=1, dtype=t.qint8)),
        f"{KIND}(qint8)",
    ),
    # Names and shapes of something else.
    "missing.npz": (changed(KEY, lambda _: None), f"missing in the file: {KEY}"),
    "unused.npz": (shaped("head2/x", 1), "no place in the model for: head2/x"),
    "control.npz": (shaped("a\nb", 1), r"no place in the model for: 'a\nb'"),
    "shape.npz": (shaped(KEY, 7), f"{DIFFER}{KEY} (7,) for {KEY} (1, 1, 24)"),
    "3.6 TiB.npz": (announced(10**12), f"{DIFFER}{KEY} (1000000000000,)"),
    "2^99.npz": (announced(2**99, 2), DIFFER),
    "negative.npz": (announced(-1, 24), KEY),
    "integers.pt": (saved(lambda t: {0: t.ones(2)}), "as keys, got 0"),
    "list.pt": (saved(lambda t: [t.ones(2)]), "expected a state_dict, got list"),
    "nothing.pt": (saved(lambda t: {"step": 3}), "it holds no arrays"),
    "nothing.npz": (edited(lambda _: b"PK\5\6" + bytes(18)), "holds no arrays"),
    # Damage.
    "empty.npz": (edited(lambda _: b""), ZIP + NO_ZIP),
    "array.npz": (edited(bytes, lambda f, **_: np.save(f, 0)), NO_ZIP),
    "half.npz": (edited(lambda data: data[: len(data) // 2]), NO_ZIP),
    "header.npz": (edited(lambda data: data.replace(b"NUM", b"NaN", 1)), FIRST),
    "flipped.npz": (edited(flipped(200)), f"{FIRST}: Bad CRC-32"),
    "deflated.npz": (edited(flipped(60), np.savez_compressed), FIRST),
    "fewer.npz": (announced(*SHAPE), f"{KEY}: expected 96 bytes for the shape"),
    "bomb.npz": (announced(*SHAPE, mebibytes=64), f"{KEY}: expected 96 bytes"),
    "large.npz": (announced(64 << 18, mebibytes=64), DIFFER),
    "unknown.npz": (with_field(8, 77), f"{FIRST}: compressed in another way"),
    "lzma.npz": (announced(2, compression=14), "compressed in another way"),
    "encrypted.npz": (with_field(6, 1), "is encrypted"),
    "deflated.pt": (deflated, "it is compressed, which"),
    "text.pt": (edited(lambda _: b"no such file"), NO_CODE),
    "text.safetensors": (edited(lambda _: b"no such file"), NO_SAFETENSORS),
    "empty.safetensors": (edited(lambda _: b""), NO_SAFETENSORS),
    "plain.pt": (malicious, NO_CODE),
    "code.pth": (saved(lambda _: {KEY: Malicious()}), NO_CODE),
    "scripted.pt": (scripted, "it holds: weight, bias"),
    # None at all.
    "nowhere.npz": (lambda path, arrays: None, "there is no such file"),
    "folder.bin": (lambda path, arrays: path.mkdir(), "there is no such file"),
    "weights.h5": (lambda path, arrays: None, "a file that ends in .npz, .safe"),
}
# The same of files that should hold another model, or one by a naming.
OTHERS = {
    "variance.npz": ("resnet", changed(NORM, lambda a: -a), f"for {NORM}, got neg"),
    "heads.npz": ("big_vision", shaped(OUT, 2, 24, 12), f"{DIFFER}{OUT} (2, 24, 12)"),
    "twice.npz": ("big_vision", shaped("pos_embedding", 1, 10, 24), "second array for"),
    "positions of no grid.npz": ("timm", shaped(POSITIONS, 1, 8, 24), DIFFER),
    "positions of a width.npz": ("timm", shaped(POSITIONS, 1, 5, 7), DIFFER),
    "too many positions.npz": ("timm", shaped(POSITIONS, 1, 1 + 129**2, 24), DIFFER),
    "scalar positions.npz": ("timm", shaped(POSITIONS), DIFFER),
    "no positions.npz": ("timm", shaped(POSITIONS, 0), DIFFER),
    "fused of no thirds.npz": ("timm", shaped(QKV, 71, 24), f"{DIFFER}{QKV} (71, 24)"),
    "flat fused.npz": ("timm", shaped(QKV, 72), DIFFER),
    "scalar fused.npz": ("timm", shaped(QKV), DIFFER),
    "another network.npz": ("timm", shaped("fc.weight", 1), "for: fc.weight"),
    "resnet.npz": ("torchvision", shaped("bn1.bias", 9), DIFFER),
}


@pytest.mark.parametrize("file", [*HOSTILE, *OTHERS])
def test_a_hostile_file_is_refused_in_one_line(tmp_path, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    holds, make, words = OTHERS.get(file) or ("vit", *HOSTILE[file])
    if words == NO_CODE:
        pytest.importorskip("torch", reason="needs the extra `parity`")
    model = tiny(NETWORK_OF.get(holds, holds))
    before = arrays_of(model)
    published = holds in NETWORK_OF
    make(tmp_path / file, as_published(holds, model) if published else before)
    message = refusal(model, tmp_path / file)
    assert message.startswith(f"{tmp_path / file} is missing, damaged, or of another k")
    assert words in message
    assert len(message.splitlines()) == 1
    assert_same(model, before)
    assert not pathlib.Path("was-run").exists()


def refusal(model, path):
    with pytest.raises(WeightsError) as error:
        load_weights(model, path)
    return str(error.value)


@pytest.mark.parametrize("file", ["bomb.npz", "large.npz", "3.6 TiB.npz"])
def test_no_more_is_unpacked_than_the_model_takes(tmp_path, file):
    model = tiny("vit")
    HOSTILE[file][0](tmp_path / file, arrays_of(model))
    refusal(model, tmp_path / file)  # what is imported and compiled once
    tracemalloc.start()
    try:
        refusal(model, tmp_path / file)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_weights_of_another_architecture_are_recognised(tmp_path):
    file = save(tmp_path / "resnet.npz", as_published("torchvision", tiny("resnet")))
    message = refusal(tiny("mobilenet"), file)
    assert "expected a MobileNetV1 as Keras names it" in message
    assert "it looks like a ResNet as torchvision" in message
    assert "does not fit the ResNet; " in refusal(tiny("bottleneck"), file)
    file = save(tmp_path / "unknown.npz", {"x": np.zeros(1)})
    assert "it holds: x. Choose the model" in refusal(tiny("resnet"), file)


@pytest.mark.parametrize(("naming", "name", "words"), [
    ("Swin", "swin", "a Swin as its authors name it"),
    ("timm's Swin", "swin", "a Swin as timm names it"),
    ("timm", "vit", "a vision transformer as timm names it"),
    ("OpenAI", "clip", "a vision transformer of CLIP as OpenAI and open_clip"),
    ("timm's CLIP", "clip", "a vision transformer of CLIP as timm names it"),
    ("timm's CLIP ResNet", "clip_resnet", "a ResNet of CLIP as timm names it"),
])  # fmt: skip
@pytest.mark.parametrize("other", ["resnet", "vit", "clip"])
def test_a_file_is_called_what_it_is(tmp_path, naming, name, words, other):
    file = save(tmp_path / "weights.npz", as_published(naming, tiny(name)))
    if other == name:
        load_weights(tiny(other), file)
    else:
        message = refusal(tiny(other), file)
        assert f"looks like {words}" in message or f"kind: {words}" in message


def test_without_torch_a_torch_file_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install torch" in refusal(tiny("vit"), path)
