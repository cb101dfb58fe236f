# ruff: noqa: E402
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

for package in ("flax", "matplotlib", "rich"):
    pytest.importorskip(package, reason="needs the extra `experiments`")

from benchmarks import (
    cost,
    modes,
    options,
    reference,
    targets,
    trees,
    update,
    update_rounds,
    update_summary,
)
from benchmarks.cost import Cost
from benchmarks.modes import EXPLICIT, MODES, PLAIN
from benchmarks.ratios import Ratio, exactly
from benchmarks.update_step import Compiling, Update
from benchmarks.update_summary import COPYING, PUBLISHED

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
    file = tmp_path / "clone/util/FTP.py"
    file.parent.mkdir(parents=True)
    file.write_text(FAKE)
    return tmp_path / "clone"


def smoke(out, *more):
    return update.main(["--smoke", "--rounds", "2", "--out", str(out), *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("update") / "run"
    assert smoke(out, "--modes", EXPLICIT) == 0
    return out


def test_a_run_leaves_ratios_a_table_and_a_plot(finished):
    results = json.loads((finished / "update.json").read_text())
    tree = results["trees"]["tiny"]
    assert len(tree["rounds"]) == 2
    assert len(tree["compile_rounds"]) == 1
    rows = tree["contenders"]
    assert list(rows) == [PLAIN, EXPLICIT]
    assert rows[PLAIN]["passes"] == pytest.approx(10, rel=0.01)
    assert rows[PLAIN]["traffic"] == rows[PLAIN]["time"]["median"] == 1.0
    assert 1 < rows[EXPLICIT]["traffic"] < 3
    assert rows[EXPLICIT]["state"] == pytest.approx(4, rel=0.01)
    for row in rows.values():
        assert row["copies"] == 0
        assert row["compilations"] == 1
        assert row["published"] is None
        for column in ("time", "of_limit", "compile"):
            found = row[column]
            assert 0 < found["low"] <= found["median"] <= found["high"]
    assert {found["tree"] for found in results["targets"]} == {"tiny"}
    table = (finished / "update.md").read_text()
    assert "| FTP explicit |" in table
    assert f"git clone {reference.SOURCE}" in table
    assert (finished / "update.png").read_bytes().startswith(b"\x89PNG")


def test_the_published_step_takes_turns(tmp_path, clone):
    pytest.importorskip("torch", reason="needs the extra `test`")
    assert smoke(tmp_path, "--modes", EXPLICIT, "--reference", str(clone)) == 0
    results = json.loads((tmp_path / "update.json").read_text())
    tree = results["trees"]["tiny"]
    assert all(seconds[PUBLISHED] > 0 for seconds in tree["rounds"])
    assert results["torch"]["threads"] >= 1
    assert any("published" in found["target"] for found in results["targets"])
    table = (tmp_path / "update.md").read_text()
    assert "| published (PyTorch) |" in table
    assert "git clone" not in table


def test_the_published_step_moves_its_own_copies(clone):
    torch = pytest.importorskip("torch", reason="needs the extra `test`")
    params = {"fc": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}}
    grads = jax.tree.map(jnp.ones_like, params)
    module = reference.load(clone)
    made = []
    step = module.AdamP.step
    module.AdamP.step = lambda self: (made.append(self.group), step(self))[1]
    reference.Published(module, params, grads).run(2)
    bias, kernel = made[0]["params"]
    assert tuple(kernel.shape) == (3, 2)
    torch.testing.assert_close(kernel.data, torch.arange(6.0).reshape(2, 3).T - 0.5)
    assert bias.data.tolist() == [0.5] * 3
    assert params["fc"]["kernel"][0, 0] == 0.0


def test_leaves_lie_as_pytorch_has_them():
    shapes = trees.vit(width=8, depth=1, heads=2, patch=112)
    arrays = trees.drawn(shapes, 0, 1.0)
    names = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(arrays)
    ]
    laid_out = dict(zip(names, reference.in_torch_layout(arrays), strict=True))
    attention = "blocks/0/attention"
    assert laid_out["patch/kernel"].shape == (8, 3, 112, 112)
    assert laid_out[f"{attention}/query/kernel"].shape == (8, 8)
    assert laid_out[f"{attention}/query/bias"].shape == (8,)
    assert laid_out[f"{attention}/out/kernel"].shape == (8, 8)
    assert laid_out["head/kernel"].shape == (1000, 8)
    assert laid_out["pos_embed"].shape == (1, 5, 8)
    query = np.asarray(arrays["blocks"]["0"]["attention"]["query"]["kernel"])
    expected = query.reshape(8, 8).T
    np.testing.assert_array_equal(laid_out[f"{attention}/query/kernel"], expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no util/FTP.py: expected a clone of"),
        ("AdamP = None +", "cannot be imported"),
        ("class SGDP: pass", "has no AdamP"),
    ],
)
def test_a_clone_that_cannot_be_used_is_refused(text, message, clone, capsys):
    pytest.importorskip("torch", reason="needs the extra `test`")
    file = clone / "util/FTP.py"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    assert update.main(["--smoke", "--reference", str(clone)]) == 2
    assert message in capsys.readouterr().err


def test_the_published_step_without_torch_is_refused(clone, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert update.main(["--smoke", "--reference", str(clone)]) == 2
    assert "needs torch (pip install" in capsys.readouterr().err


def made_up(ftp=(2.0, 2.0), published=(5.0, 4.5), passes=17, copies=0, compile_=1.5):
    plain = Cost(4, 8, 0, 40, 0.0, 0)
    costs = {PLAIN: plain, EXPLICIT: plain._replace(traffic=4 * passes, copies=copies)}
    rounds = [
        {PLAIN: 1.0, EXPLICIT: f, PUBLISHED: p, COPYING: 0.5}
        for f, p in zip(ftp, published, strict=True)
    ]
    compiled = [{PLAIN: 2.0, EXPLICIT: 2.0 * compile_}]
    rows = update_summary.summarise(
        costs, {PLAIN: 1, EXPLICIT: 1}, rounds, compiled, copied_bytes=20
    )
    return rows, update_summary.verdicts({"tiny": {"contenders": rows}})


def test_made_up_rounds_that_reach_every_target():
    rows, found = made_up()
    assert rows[EXPLICIT]["traffic"] == 1.7
    assert rows[EXPLICIT]["passes"] == 17
    # 68 bytes at 20 bytes in half a second take 1.7 seconds.
    assert rows[EXPLICIT]["of_limit"]["median"] == pytest.approx(2.0 / 1.7)
    assert rows[PLAIN]["of_limit"]["median"] == pytest.approx(1.0)
    assert rows[EXPLICIT]["compile"]["median"] == 1.5
    assert len(found) == len(update_summary.TARGETS)
    assert all(verdict["reached"] and verdict["clear"] for verdict in found)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"passes": 19}, "bytes"),
        ({"copies": 1}, "copies"),
        ({"ftp": (2.3, 2.4), "published": (5.0, 5.0)}, "2.2 times as long"),
        ({"compile_": 2.1}, "compiles in"),
        ({"published": (3.5, 3.9)}, "published"),
    ],
)
def test_made_up_rounds_that_miss_one_target(changes, missed):
    _, found = made_up(**changes)
    targets_missed = [v["target"] for v in found if not v["reached"]]
    assert len(targets_missed) == 1
    assert missed in targets_missed[0]


def test_a_verdict_says_what_was_measured_and_its_doubt():
    doubted = targets.judge("Fast", Ratio(2.1, 1.9, 2.3), 2.2, at_most=True)
    said = "Fast, here: reached, within the noise, 2.100 (1.900-2.300)."
    assert targets.line(doubted, "here") == said
    exact = targets.judge("Small", exactly(3), 2, at_most=True)
    assert targets.line(exact, "there") == "Small, there: missed, 3."


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_updates_with_one_program(mode):
    params = trees.drawn(trees.small_leaves(7), 0, 0.02)
    grads = trees.drawn(trees.small_leaves(7), 1, 0.02)
    ready = Update(modes.optimizer(mode), params, grads)
    # An anchor on the host is bound to its device, and binds there all that the first
    # step returns: the second one is compiled anew, and no other.
    ready.run(4)
    assert ready.compilations <= (2 if mode == "host" else 1)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(ready.carry[0]))
    assert ready.cost.params == cost.num_bytes(ready.carry[0])


def test_each_compilation_starts_from_nothing():
    params = {"kernel": jnp.ones((4, 3))}
    ready = Update(optax.sgd(0.1), params, {"kernel": jnp.ones((4, 3))})
    seconds = [Compiling(optax.sgd(0.1), ready.shapes).run(1) for _ in range(2)]
    # What is remembered takes well below a millisecond.
    assert min(seconds) > 2e-3


def test_the_trees_have_the_sizes_they_are_known_by():
    assert trees.size(trees.vit()) == 86_567_656  # timm's vit_base_patch16_224
    small = trees.small_leaves(400)
    leaves = jax.tree.leaves(small, is_leaf=lambda node: isinstance(node, tuple))
    assert len(leaves) == 400
    assert len(set(leaves)) == 7
    for num_params, count in ((1e5, 10), (1e7, 1000), (3e8, 24)):
        assert trees.size(trees.even(num_params, count)) == pytest.approx(
            num_params, rel=0.08
        )


def test_ctrl_c_reports_the_rounds_that_were_finished(tmp_path, monkeypatch):
    interleaved = update_rounds.interleaved

    def interrupted(*args):
        yield next(interleaved(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr(update_rounds, "interleaved", interrupted)
    assert smoke(tmp_path, "--modes", EXPLICIT) == 130
    tree = json.loads((tmp_path / "update.json").read_text())["trees"]["tiny"]
    assert len(tree["rounds"]) == 1
    assert tree["contenders"][EXPLICIT]["compile"] is None
    assert (tmp_path / "update.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modes", "fast"], "invalid choice: 'fast'"),
        (["--trees", "tiny", "tiny"], "--trees: a value is given twice"),
        (["--compile-rounds", "0"], "expected a whole number from 1 on, got 0"),
        (["--seed", "-1"], "expected a number from 0 on"),
        (["--out", __file__], "is not a directory"),
    ],
)
def test_bad_options_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        update.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_smoke_changes_defaults_only():
    args = update.parse(["--smoke", "--rounds", "9"])
    assert args.rounds == 9
    assert args.trees == ["tiny"]
    assert args.out == options.SMOKE["out"]
