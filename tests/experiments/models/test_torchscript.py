"""TorchScript archives: written here by hand, good ones and hostile ones."""

import pickle
import zipfile

import numpy as np
import pytest

from experiments.models.files import WeightsError, contents, values

NUMBERS = np.arange(6, dtype=np.float16)
MODULE = b"c__torch__.clip\nVisual\n)\x81"  # an object of a class that is not there


def plain(value):
    return pickle.dumps(value, 2)[2:-1]


def tensor(shape=(2, 3), strides=(3, 1), offset=0, numbers=6, kind="Half", key="0"):
    storage = (
        b"(" + plain("storage") + f"ctorch\n{kind}Storage\n".encode() + plain(key)
        + plain("cpu") + plain(numbers) + b"tQ"
    )  # fmt: skip
    rest = plain(offset) + plain(shape) + plain(strides) + b"\x89}"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def module(**attributes):
    pairs = b"".join(plain(name) + value for name, value in attributes.items())
    return MODULE + b"}(" + pairs + b"ub"


def archive(path, pickled, numbers=NUMBERS, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", b"\x80\x02" + pickled + b".")
        file.writestr("x/data/0", numbers.tobytes(), compression)
        file.writestr("x/constants.pkl", b"\x80\x02).")
    return path


def test_tensors_are_read_by_the_names_of_their_modules(tmp_path):
    inner = module(weight=tensor(), training=b"\x88", shifted=tensor((2,), (2,), 1))
    path = archive(tmp_path / "x.pt", module(visual=inner, count=tensor((), ())))
    stored = contents(path)
    assert set(stored) == {"visual.weight", "visual.shifted", "count"}
    assert stored["visual.weight"].kind == "float16"
    np.testing.assert_array_equal(stored["visual.weight"].read(), NUMBERS.reshape(2, 3))
    np.testing.assert_array_equal(stored["visual.shifted"].read(), [1, 3])


LONG = module(**{"a" * 999: module(b=module(c=tensor()))})
CANNOT_BE = "a tensor has a shape or strides that cannot be"
HOSTILE = {
    "code": (b"cos\nsystem\n(" + plain("true") + b"tR", "it names os.system, and no c"),
    "built-in code": (b"cbuiltins\neval\n(" + plain("1") + b"tR", "builtins.eval, and"),
    "no module": (plain("x"), "it holds no arrays"),
    "no tensor": (module(x=b"ctorch._utils\n_rebuild_tensor_v2\n)R"), "missing 4"),
    "quantised": (module(x=tensor(kind="QInt8")), "that are none of torch's"),
    "a key that is none": (module(x=tensor(key=0)), "that are none of torch's"),
    "beyond the end": (module(x=tensor(shape=(3, 3))), "is not in its 6 numbers"),
    "shifted": (module(x=tensor(offset=1)), "is not in its 6 numbers"),
    "of no numbers": (module(x=tensor(numbers=0)), "is not in its 0 numbers"),
    "before the start": (module(x=tensor(offset=-1)), CANNOT_BE),
    "backwards": (module(x=tensor(strides=(-3, 1))), CANNOT_BE),
    "half a side": (module(x=tensor(shape=(2.5, 3))), CANNOT_BE),
    "sides without strides": (module(x=tensor(strides=(3,))), CANNOT_BE),
    "many axes": (module(x=tensor(shape=(1,) * 99, strides=(1,) * 99)), CANNOT_BE),
    "long names": (LONG, "has no proper name"),
    "no names": (MODULE + b"}(K\x01" + tensor() + b"ub", "has no proper name"),
    "large": (module(x=plain(bytes(1 << 23))), "data.pkl is compressed or above"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_in_one_line(tmp_path, name):
    pickled, words = HOSTILE[name]
    path = archive(tmp_path / "x.pt", pickled)
    with pytest.raises(WeightsError, match=r"^.*x\.pt is missing, damaged") as error:
        contents(path)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("key", "options", "words"), [
    ("0", {"numbers": NUMBERS[:5]}, "expected 6 numbers of float16, not compressed"),
    ("0", {"numbers": np.zeros(1 << 22)}, "expected 6 numbers of float16"),
    ("0", {"compression": zipfile.ZIP_DEFLATED}, "expected 6 numbers of float16"),
    ("1", {}, "There is no item named 'x/data/1' in the archive"),
    ("../data.pkl", {}, "There is no item named"),
])  # fmt: skip
def test_numbers_that_are_not_there_are_refused(tmp_path, key, options, words):
    path = archive(tmp_path / "x.pt", module(x=tensor(key=key)), **options)
    with pytest.raises(WeightsError, match=words):
        values(path, contents(path))
