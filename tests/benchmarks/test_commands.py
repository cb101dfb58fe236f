"""What the commands leave, refuse, and keep after Ctrl-C."""

# ruff: noqa: E402
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

for package in ("flax", "matplotlib", "absl"):
    pytest.importorskip(package, reason="needs the extra `experiments`")

from benchmarks import contenders, measure, memory, methods, scaling, show, update
from benchmarks.contenders import EXPLICIT, MODES, PLAIN

BENCHMARKS = {  # options of a short run, and the rows of its tables
    "update": (update, "--modes explicit", ["AdamW", "FTP explicit"]),
    "memory": (memory, "", [contenders.LABELS[who] for who in (PLAIN, *MODES)]),
    "methods": (
        methods,
        "--methods l2-sp ftp tpgm --batch-size 2",
        ["AdamW", "L2-SP", "FTP", "TPGM"],
    ),
    "scaling": (scaling, "--rounds 2 --leaves 4 8", None),
}


def run(name, out, options=None):
    module, standard, _ = BENCHMARKS[name]
    options = (standard if options is None else options).split()
    return module.main(["--smoke", *options, "--out", str(out)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The results of a benchmark by name, each run once."""

    @functools.cache
    def results(name):
        out = tmp_path_factory.mktemp(name)
        assert run(name, out) == 0
        return out, json.loads((out / f"{name}.json").read_text())

    return results


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_run_leaves_numbers_a_page_and_a_plot(name, finished):
    out, results = finished(name)
    machine = results["machine"]
    assert {"machine", "jax", "load"} <= {*machine}
    assert not {"host", "hostname", "node", "user", "path"} & {*machine}
    assert str(out) not in json.dumps(results)
    page = (out / f"{name}.md").read_text()
    assert page.count("\n\n| ") == page.count("\n| ---") >= 1
    assert machine["jax"] in page
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    if rows := BENCHMARKS[name][2]:
        [group] = results["groups"]
        assert list(group["figures"]) == rows
        assert all(f"\n| {row} " in page for row in rows)
        for row in group["figures"].values():
            missing = [column for column, value in row.items() if value is None]
            assert missing == (["of published"] if name == "update" else [])


FIGURES = [
    ("update", "AdamW", {"passes": 10, "traffic": 1, "state": 2, "programs": 1}),
    ("update", "FTP explicit", {"state": 4, "copies": 0, "programs": 1}),
    ("memory", "AdamW", {"device": 0, "host": 0, "memory": 1}),
    ("memory", "FTP explicit", {"device": 2, "host": 0}),
    ("memory", "FTP bfloat16", {"device": 1.5, "host": 0}),
    ("memory", "FTP int8", {"device": 1.25, "host": 0}),
    ("memory", "FTP implicit", {"device": 1, "host": 0}),
    ("memory", "FTP int8, anchor on host", {"device": 0.25, "host": 1}),
    ("methods", "L2-SP", {"state": 3, "traffic": 1, "FLOPs": 1}),
    ("methods", "FTP", {"state": 4, "copies": 0, "FLOPs": 1}),
    ("methods", "TPGM", {"state": 3, "copies": 0, "FLOPs": 2}),
]


@pytest.mark.parametrize(("name", "row", "expected"), FIGURES)
def test_what_is_counted_is_what_the_method_is_known_for(name, row, expected, finished):
    figures = finished(name)[1]["groups"][0]["figures"][row]
    # Radii and counters are some bytes a leaf; the loss is small beside the images.
    counted = {column: figures[column] for column in expected}
    assert counted == pytest.approx(expected, abs=0.1)
    if name != "memory":
        time = figures["time"]
        assert 0 < time["low"] <= time["median"] <= time["high"]


def test_growth_is_measured_along_every_axis(finished):
    out, results = finished("scaling")
    along = scaling.finished(results)
    points = {axis: len(points) for axis, points in along.items()}
    assert points == {"params": 3, "leaves": 2, "devices": 2}
    quantities = scaling.QUANTITIES.items()
    expected = [f"{key}, {axis}" for axis, keys in quantities for key in keys]
    assert list(results["slopes"]) == expected
    one, two = along["devices"]
    for who in (PLAIN, EXPLICIT):
        for key in ("traffic", "state"):
            assert two[who][key] == pytest.approx(one[who][key] / 2, rel=0.05)
    assert one[EXPLICIT]["between"] == two[PLAIN]["between"] == 0
    assert 0 < two[EXPLICIT]["between"] < 0.02 * two[EXPLICIT]["traffic"]
    assert "| traffic, devices | -1.000" in (out / "scaling.md").read_text()


# ---- Interruptions -------------------------------------------------------------------


@pytest.fixture
def interrupt(monkeypatch):
    """Makes a run see Ctrl-C when it has told of so many steps."""

    def after(steps):
        told = itertools.count(1)

        def say(done):
            if next(told) == steps:
                raise KeyboardInterrupt

        monkeypatch.setattr(show, "say", say)

    return after


@pytest.mark.parametrize(
    ("name", "steps", "kept"),
    [
        ("update", 4, lambda r: r["groups"][0]["figures"]["FTP explicit"]["time"]),
        ("memory", 2, lambda r: r["groups"][0]["figures"]["FTP explicit"]["device"]),
        ("methods", 5, lambda r: r["groups"][0]["figures"]["FTP"]["time"]),
        ("scaling", 8, lambda r: r["slopes"]["time, params"]["FTP"]),
    ],
)
def test_ctrl_c_keeps_what_was_measured(name, steps, kept, tmp_path, interrupt):
    interrupt(steps)
    assert run(name, tmp_path) == 130
    assert kept(json.loads((tmp_path / f"{name}.json").read_text()))


def test_ctrl_c_before_anything_was_finished_says_so(tmp_path, interrupt, capsys):
    interrupt(1)
    assert run("scaling", tmp_path) == 130
    assert "nothing to report" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


# ---- What is left out or refused -----------------------------------------------------


def test_sizes_beyond_the_memory_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "free_bytes", lambda: 3_000_000)
    assert run("scaling", tmp_path, "--rounds 1 --along params") == 0
    results = json.loads((tmp_path / "scaling.json").read_text())
    assert len(scaling.finished(results)["params"]) == 2
    left_out = "Left out along params: 0.1, it needs 0.004 GB, 0.003 GB are free."
    assert left_out in (tmp_path / "scaling.md").read_text()


def test_a_mode_that_is_refused_is_left_out(tmp_path):
    assert run("memory", tmp_path, "--dtypes bfloat16 --modes implicit") == 0
    results = json.loads((tmp_path / "memory.json").read_text())
    assert list(results["groups"][0]["accounts"]) == [PLAIN]
    [note] = results["notes"]
    assert note.startswith("FTP implicit, bfloat16 params: refused. anchor: ")


REFUSED = [
    ("update", "--modes fast", "invalid choice: 'fast'"),
    ("update", "--trees tiny tiny", "--trees: expected 1 values or more, none of them"),
    ("update", "--compile-rounds 0", "expected a whole number above 0, got 0"),
    ("update", "--out {file}", "is not a directory"),
    ("update", "--reference {folder}", "--reference: expected a clone of https://git"),
    ("update", "--reference {folder}/other", "and torch (pip install"),
    ("memory", "--tree oak", "invalid choice: 'oak'"),
    ("methods", "--batch-size many", "invalid whole number value: 'many'"),
    ("methods", "--weights missing.npz", "--weights: missing.npz does not exist"),
    ("methods", "--models resnet --weights {file}", "cannot be read"),
    ("methods", "--models resnet --weights {odd}", "Choose the model"),
    ("scaling", "--params 0 1", "expected a number above 0, got 0"),
    ("scaling", "--params nan 1", "expected a number above 0, got nan"),
    ("scaling", "--leaves 10", "--leaves: expected 2 values or more"),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_bad_input_is_refused_with_a_reason(name, options, message, tmp_path, capsys):
    util = tmp_path / "other" / "util"
    util.mkdir(parents=True)
    (util / "FTP.py").write_text("class SGDP: pass")
    file, odd = tmp_path / "file.npz", tmp_path / "odd.npz"
    file.write_text("no weights")
    np.savez(odd, odd=np.zeros(3))
    options = options.format(file=file, odd=odd, folder=tmp_path)
    argv = ["--smoke", "--out", str(tmp_path / "out"), *options.split()]
    try:
        status = BENCHMARKS[name][0].main(argv)
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    assert message in capsys.readouterr().err


def test_a_process_that_fails_ends_the_run_with_its_words(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("XLA_FLAGS", "--no_such_flag=1")
    assert run("scaling", tmp_path, "--along devices --rounds 1") == 2
    assert "benchmarks.scaling: 1 devices: " in capsys.readouterr().err


def test_smoke_changes_defaults_only():
    options, smoke = update.OPTIONS, update.SMOKE
    args = show.parse("update", "", options, smoke, ["--smoke", "--rounds", "9"])
    assert (args.rounds, args.trees, args.out) == (9, ["tiny"], show.SMOKE_OUT)


# ---- What users bring ----------------------------------------------------------------

FAKE = """
class AdamP:
    made = []

    def __init__(self, groups, lr, weight_decay):
        [self.group] = groups
        self.made.append(self.group)

    def step(self):
        for weight, pre in zip(self.group["params"], self.group["pre"], strict=True):
            weight.data = pre - 0.5 * weight.grad
"""


@pytest.fixture
def clone(tmp_path):
    pytest.importorskip("torch", reason="needs the extra `parity`")
    file = tmp_path / "clone/util/FTP.py"
    file.parent.mkdir(parents=True)
    file.write_text(FAKE)
    return tmp_path / "clone"


def test_the_published_pytorch_step_takes_turns(clone, tmp_path):
    assert run("update", tmp_path, f"--modes explicit --reference {clone}") == 0
    [group] = json.loads((tmp_path / "update.json").read_text())["groups"]
    assert len(group["accounts"]["published"]["time"]) == 3
    assert group["figures"]["FTP explicit"]["of published"]["median"] > 0
    page = (tmp_path / "update.md").read_text()
    assert "| published (PyTorch) |" in page
    assert "git clone" not in page


def test_the_published_step_moves_its_own_copies_laid_out_as_pytorch_has_them(clone):
    published = contenders.load_published(clone)
    shapes = {
        "conv": {"kernel": contenders.shaped((3, 2, 4, 8))},
        "fc": {"bias": contenders.shaped((3,)), "kernel": contenders.shaped((2, 3))},
        "out": {"kernel": contenders.shaped((4, 2, 6))},
        "pos_embed": contenders.shaped((1, 5, 8)),
    }
    params = contenders.drawn(shapes, 0)
    before = np.array(params["fc"]["kernel"])
    published(params, jax.tree.map(jnp.ones_like, params))(2)
    [group] = published.args[1].made
    moved = [tuple(weight.shape) for weight in group["params"]]
    assert moved == [(8, 4, 3, 2), (3,), (3, 2), (6, 8), (1, 5, 8)]
    np.testing.assert_allclose(group["params"][2].detach(), before.T - 0.5, 1e-6)
    np.testing.assert_array_equal(params["fc"]["kernel"], before)
