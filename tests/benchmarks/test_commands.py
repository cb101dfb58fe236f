"""What the commands leave, refuse, and keep after Ctrl-C."""

# ruff: noqa: E402
import functools
import itertools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

for package in ("flax", "matplotlib", "rich"):
    pytest.importorskip(package, reason="needs the extra `experiments`")

from benchmarks import (
    command,
    contenders,
    fidelity,
    memory,
    methods,
    reference,
    scaling,
    update,
)
from benchmarks import measure as measuring
from benchmarks.contenders import EXPLICIT, MODES, PLAIN

BENCHMARKS = {
    "update": (update, "--modes explicit"),
    "memory": (memory, ""),
    "methods": (methods, "--methods ftp tpgm --batch-size 2"),
    "scaling": (scaling, "--rounds 2 --leaves 4 8"),
    "fidelity": (fidelity, "--modes implicit int8 --steps 20 --pretrain-steps 20"),
}


def run(name, out, options=None):
    module, standard = BENCHMARKS[name]
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
    assert results["job"] == name
    machine = results["machine"]
    assert {"processor", "cores", "backend", "jax", "load", "load_at_end"} <= {*machine}
    assert not {"host", "hostname", "node", "user", "path"} & {*machine}
    assert str(out) not in json.dumps(results)
    page = (out / f"{name}.md").read_text()
    assert page.count("\n\n| ") == page.count("\n| ---") >= 1
    for verdict in results["targets"]:
        assert f"- {verdict['target']}, {verdict['where']}: " in page
    plot = out / f"{name}.png"
    assert name == "fidelity" or plot.read_bytes().startswith(b"\x89PNG")


def test_an_update_is_counted_and_timed(finished):
    out, results = finished("update")
    tree = results["trees"]["tiny"]
    rows = tree["contenders"]
    assert (len(tree["rounds"]), len(tree["compile_rounds"])) == (3, 1)
    assert list(rows) == [PLAIN, EXPLICIT]
    assert rows[PLAIN]["passes"] == pytest.approx(10, rel=0.01)
    assert rows[PLAIN]["traffic"] == rows[PLAIN]["time"]["median"] == 1.0
    assert 1 < rows[EXPLICIT]["traffic"] < 3
    assert rows[EXPLICIT]["state"] == pytest.approx(4, rel=0.01)
    for row in rows.values():
        assert (row["copies"], row["programs"], row["published"]) == (0, 1, None)
        assert 0 < row["time"]["low"] <= row["time"]["median"] <= row["time"]["high"]
        assert min(row["of limit"], row["compile"]["median"]) > 0
    assert f"git clone {reference.SOURCE}" in (out / "update.md").read_text()


def test_the_memory_of_every_mode_is_counted_where_it_is(finished):
    out, results = finished("memory")
    assert list(results["dtypes"]["float32"]) == [PLAIN, *MODES]
    rows = memory.beyond_plain(results["dtypes"]["float32"])
    assert rows[EXPLICIT]["device"] == pytest.approx(2, abs=0.01)
    assert rows["host"]["device"] == pytest.approx(0.25, abs=0.01)
    assert rows["host"]["host"] == pytest.approx(1, abs=0.01)
    assert all(row["host"] == 0 for name, row in rows.items() if name != "host")
    assert all(0 < row["peak"] < 5 for row in rows.values())
    assert [v["reached"] for v in results["targets"]] == [True] * len(MODES)
    assert len(results["refused"]) == len(memory.REFUSED)
    page = (out / "memory.md").read_text()
    for setting, why in results["refused"].items():
        assert f"| {setting} | {why} |" in page
        assert why.endswith(".")
    assert memory.why_not({}, {"kernel": jnp.ones((4, 3))}) is None


def test_methods_are_multiples_of_plain_and_their_state_is_known(finished):
    _, results = finished("methods")
    result = results["models"]["conv"]
    rows, params = result["methods"], 4 * result["num_params"]
    for column in ("memory", "traffic", "FLOPs"):
        assert rows[PLAIN][column] == 1.0
        assert rows["tpgm"][column] > 0
    assert rows[PLAIN]["time"]["low"] == rows[PLAIN]["time"]["high"] == 1.0
    assert rows["tpgm"]["of ftp"]["median"] > 0
    assert results["targets"] == []  # they are set for another batch size
    # Of 8 leaves: radii, Adam's two moments and count, the scale of their guard; what
    # readers need; and with FTP what `init` made, norms, shares, and the step.
    trained, read = 4 * 8 + 1, 3 * 8
    radii = {"tpgm": 4 * (trained + read), "ftp": 4 * (2 * trained + read + 3 * 8 + 1)}
    state = {who: cost["state"] for who, cost in result["costs"].items()}
    assert state[PLAIN] == 2 * params + 4
    assert state["ftp"] == state[PLAIN] + 2 * params + radii["ftp"]
    assert state["tpgm"] == state[PLAIN] + params + radii["tpgm"]


def test_growth_is_measured_along_every_axis(finished):
    _, results = finished("scaling")
    along = results["along"]
    assert [len(along[axis]) for axis in scaling.AXES] == [3, 2, 2]
    ftp, plain = scaling.FTP, scaling.PLAIN
    for point in (point for points in along.values() for point in points):
        assert 1 < point[ftp]["traffic"] / point[plain]["traffic"] < 6  # tiny leaves
        assert min(point[ftp]["time"] + point[plain]["time"]) > 0
    assert all(min(p[ftp]["compile time"]) > 0 for p in along["leaves"])
    assert len(results["slopes"]) == len(results["targets"]) == 6
    one, two = along["devices"]
    for name in (plain, ftp):
        for key in ("traffic", "state"):
            assert two[name][key] == pytest.approx(one[name][key] / 2, rel=0.05)
    assert one[ftp]["between"] == two[plain]["between"] == 0
    assert 0 < two[ftp]["between"] < 0.02 * two[ftp]["traffic"]


def test_modes_are_as_faithful_as_they_should_be(finished):
    _, results = finished("fidelity")
    golden = results["golden"]
    # Another framework's arithmetic never agrees to the last bit.
    for name in ("explicit", "implicit"):
        assert 1e-7 < golden[name]["params"] < 1e-5
        assert 1e-7 < golden[name]["radii"] < 1e-5
    assert 1e-5 < golden["int8"]["radii"] < 1e-3
    assert golden["explicit"]["anchor"] == golden["int8"]["anchor"] == 0
    assert 0 < golden["implicit"]["anchor"] < 1e-6
    runs = results["digits"]
    assert list(runs) == ["explicit", "int8", "implicit"]
    assert runs["explicit"][0]["params"] == 0
    assert all(0 < run["radii"] < 1e-2 < run["ID"] for run in runs["int8"])


def test_a_difference_beyond_the_noise_is_a_miss():
    runs = [{"seed": s, "ID": 0.9, "params": 0.0, "radii": 0.0} for s in range(4)]
    explicit, same, worse = (
        [run | {"OOD": at + 1e-4 * (-1) ** run["seed"]} for run in runs]
        for at in (0.5, 0.5, 0.4)
    )
    explicit = [run | {"OOD": 0.5} for run in explicit]
    rows = fidelity.rows_of({"explicit": explicit, "int8": same, "implicit": worse})
    judged = fidelity.targets_of(rows, noisy_steps=1)
    missed = [verdict["target"] for verdict in judged if not verdict["reached"]]
    assert len(judged) == 4
    assert missed == ["FTP (implicit) is as good as explicit, OOD, points"]


@pytest.fixture
def interrupt(monkeypatch):
    """Makes the next run see Ctrl-C after so many steps of its progress."""

    def after(steps):
        follow = command.follow

        def interrupted(running, total, console):
            follow(itertools.islice(running, steps), total, console)
            raise KeyboardInterrupt

        monkeypatch.setattr(command, "follow", interrupted)

    return after


@pytest.mark.parametrize(
    ("name", "steps", "kept"),
    [
        ("update", 4, lambda r: r["trees"]["tiny"]["contenders"][EXPLICIT]["time"]),
        ("memory", 3, lambda r: r["dtypes"]["float32"][EXPLICIT]),
        ("methods", 5, lambda r: r["models"]["conv"]["methods"]["ftp"]["time"]),
        ("scaling", 3, lambda r: r["along"]["params"][1]),
        ("fidelity", 2, lambda r: r["golden"]["explicit"]["params"]),
    ],
)
def test_ctrl_c_keeps_what_was_measured(name, steps, kept, tmp_path, interrupt):
    interrupt(steps)
    assert run(name, tmp_path) == 130
    assert kept(json.loads((tmp_path / f"{name}.json").read_text()))


def test_ctrl_c_before_a_round_was_finished_says_so(tmp_path, interrupt, capsys):
    interrupt(1)
    assert run("update", tmp_path) == 130
    assert "nothing to report" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_sizes_beyond_the_memory_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "free_bytes", lambda: 3_000_000)
    assert run("scaling", tmp_path, "--rounds 1 --along params --no-plot") == 0
    results = json.loads((tmp_path / "scaling.json").read_text())
    assert len(results["along"]["params"]) == 2
    assert results["skipped"][0][1] == "needs 0.0 GB, 0.0 GB are free"
    assert "0.1 M parameters left out" in (tmp_path / "scaling.md").read_text()
    assert not (tmp_path / "scaling.png").exists()


def test_a_mode_that_is_refused_is_left_out(tmp_path):
    assert run("memory", tmp_path, "--dtypes bfloat16 --modes implicit") == 0
    results = json.loads((tmp_path / "memory.json").read_text())
    assert list(results["dtypes"]["bfloat16"]) == [PLAIN]
    assert not (tmp_path / "memory.png").exists()  # there is nothing to draw


OPTIONS = [
    ("update", "--modes fast", "invalid choice: 'fast'"),
    ("update", "--trees tiny tiny", "--trees: a value is given twice"),
    ("update", "--compile-rounds 0", "expected a whole number above 0, got 0"),
    ("update", "--seed -1", "expected a number from 0 on"),
    ("update", f"--out {__file__}", "is not a directory"),
    ("memory", "--tree oak", "invalid choice: 'oak'"),
    ("methods", "--batch-size many", "invalid whole number value: 'many'"),
    ("methods", "--weights missing.npz", "--weights: missing.npz does not exist"),
    ("scaling", "--params 0 1", "expected a number above 0, got 0"),
    ("scaling", "--leaves 10", "--leaves: expected 2 values at least, got 1"),
    ("fidelity", "--learning-rate nan", "expected a number above 0, got nan"),
]


@pytest.mark.parametrize(("name", "options", "message"), OPTIONS)
def test_bad_options_are_refused(name, options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        BENCHMARKS[name][0].main(options.split())
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


FAKE = """
class AdamP:
    def __init__(self, groups, lr, weight_decay):
        [group] = groups
        assert len(group["params"]) == len(group["name"]) == len(group["pre"])
        self.group = group

    def step(self):
        for weight, pre in zip(self.group["params"], self.group["pre"]):
            weight.data = pre - 0.5 * weight.grad
"""


@pytest.fixture
def clone(tmp_path):
    pytest.importorskip("torch", reason="needs the extra `parity`")
    file = tmp_path / "clone/util/FTP.py"
    file.parent.mkdir(parents=True)
    file.write_text(FAKE)
    return tmp_path / "clone"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no util/FTP.py: expected a clone of"),
        ("AdamP = None +", "cannot be imported"),
        ("class SGDP: pass", "has no AdamP"),
        ("no torch", "needs torch (pip install"),
    ],
)
def test_a_clone_that_cannot_be_used_is_refused(
    text, message, clone, capsys, monkeypatch, tmp_path
):
    file = clone / "util/FTP.py"
    if text is None:
        file.unlink()
    elif text == "no torch":
        monkeypatch.setitem(sys.modules, "torch", None)
    else:
        file.write_text(text)
    assert run("update", tmp_path / "out", f"--reference {clone}") == 2
    error = capsys.readouterr().err
    assert error.startswith("benchmarks.update: --reference: ")
    assert message in error


def test_the_published_step_takes_turns(clone, tmp_path):
    assert run("update", tmp_path, f"--modes explicit --reference {clone}") == 0
    results = json.loads((tmp_path / "update.json").read_text())
    assert all(
        seconds["published"] > 0 for seconds in results["trees"]["tiny"]["rounds"]
    )
    assert results["torch"]["threads"] >= 1
    assert any("published" in found["target"] for found in results["targets"])
    page = (tmp_path / "update.md").read_text()
    assert "| published (PyTorch) |" in page
    assert "git clone" not in page


def test_the_published_step_moves_its_own_copies_laid_out_as_pytorch_has_them(clone):
    module, made = reference.load(clone), []
    step = module.AdamP.step
    module.AdamP.step = lambda self: (made.append(self.group), step(self))[1]
    shapes = {
        "conv": {"kernel": contenders.shaped((3, 2, 4, 8))},
        "fc": {"bias": contenders.shaped((3,)), "kernel": contenders.shaped((2, 3))},
        "out": {"kernel": contenders.shaped((4, 2, 6))},
        "pos_embed": contenders.shaped((1, 5, 8)),
    }
    params = contenders.drawn(shapes, 0, 1.0)
    grads = jax.tree.map(jnp.ones_like, params)
    before = np.array(params["fc"]["kernel"])
    reference.published(module, params, grads)(2)
    moved = [tuple(weight.shape) for weight in made[0]["params"]]
    assert moved == [(8, 4, 3, 2), (3,), (3, 2), (6, 8), (1, 5, 8)]
    np.testing.assert_allclose(made[0]["params"][2].detach(), before.T - 0.5, 1e-6)
    np.testing.assert_array_equal(params["fc"]["kernel"], before)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [(None, "cannot be read"), ({"odd": np.zeros(3)}, "Choose the model")],
)
def test_weights_that_do_not_fit_are_refused(arrays, message, tmp_path, capsys):
    file = tmp_path / "weights.npz"
    file.write_text("no weights")
    if arrays is not None:
        np.savez(file, **arrays)
    assert run("methods", tmp_path, f"--models resnet --weights {file}") == 2
    error = capsys.readouterr().err
    assert error.startswith("benchmarks.methods: --weights:")
    assert message in error


def test_the_trunk_takes_given_weights(tmp_path):
    make, file = contenders.MODELS["resnet"].make, tmp_path / "trunk.npz"
    given = contenders.functional(make, seed=1)[0]["backbone"]
    flat = jax.tree.leaves_with_path({"backbone": given})
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    np.savez(file, **{name(path): leaf for path, leaf in flat})
    loaded = contenders.functional(make, 0, file)[0]["backbone"]
    jax.tree.map(np.testing.assert_array_equal, loaded, given)


def test_a_process_that_fails_ends_the_run_with_its_words(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("XLA_FLAGS", "--no_such_flag=1")
    options = "--along devices params --rounds 1"
    assert run("scaling", tmp_path, options) == 1
    assert "benchmarks.scaling: 1 devices: " in capsys.readouterr().err


def test_smoke_changes_defaults_only():
    options, smoke = update.OPTIONS, update.SMOKE
    args = command.parse(["--smoke", "--rounds", "9"], "update", "", options, smoke)
    assert (args.rounds, args.trees, args.out) == (9, ["tiny"], command.SMOKE_OUT)
