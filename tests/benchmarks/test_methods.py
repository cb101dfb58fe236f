# ruff: noqa: E402
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

for package in ("flax", "matplotlib", "rich"):
    pytest.importorskip(package, reason="needs the extra `experiments`")

from benchmarks import cost, methods, models, summary
from benchmarks.contenders import METHODS, PLAIN
from benchmarks.models import MODELS
from benchmarks.timing import Training, interleaved

CHOSEN = ["plain", "ftp", "tpgm"]
# A loss of the registry's kind, that compiles in no time.
PARAMS = {
    "body": {"kernel": np.full((4, 3), 0.5, np.float32), "bias": np.zeros(3, "f")},
    "head": {"kernel": np.full((3, 2), 0.25, np.float32)},
}


def tiny_loss(params, batch):
    x, y = batch
    hidden = jnp.tanh(x @ params["body"]["kernel"] + params["body"]["bias"][None])
    return jnp.mean((hidden @ params["head"]["kernel"] - y) ** 2)


def tiny_batches(n=2):
    keys = jax.random.split(jax.random.key(0), (n, 2))
    draw = lambda key: (jax.random.normal(key, (5, 4)), jnp.ones((5, 2)))
    return [(draw(a), draw(b)) for a, b in keys]


def tiny_training(method):
    init, step = METHODS[method].build(tiny_loss)
    params = jax.tree.map(jnp.array, PARAMS)
    state = init(params)
    batches = tiny_batches()
    jitted = jax.jit(step, donate_argnums=(0, 1))
    compiled = jitted.lower(params, state, *batches[0]).compile()
    return compiled, params, state, Training(compiled, params, state, batches)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmarks") / "run"
    options = ["--models", "conv", "--methods", *CHOSEN, "--rounds", "2"]
    assert methods.main([*options, "--batch-size", "2", "--out", str(out)]) == 0
    return out


def test_a_run_leaves_numbers_a_table_and_a_plot(finished):
    results = json.loads((finished / "methods.json").read_text())
    rows = results["models"]["conv"]["methods"]
    assert list(rows) == CHOSEN
    for row in rows.values():
        assert row["images_per_second"] > 0
        assert 0 < row["time"]["low"] <= row["time"]["median"] <= row["time"]["high"]
        assert min(row["memory"], row["traffic"], row["flops"]) > 0
    for column in ("memory", "traffic", "flops"):
        assert rows[PLAIN][column] == 1.0
    assert rows[PLAIN]["time"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert results["targets"] == []  # they are set for another batch size
    table = (finished / "methods.md").read_text()
    assert all(f"| {METHODS[name].label} |" in table for name in CHOSEN)
    assert (finished / "methods.png").read_bytes().startswith(b"\x89PNG")


def test_the_state_beyond_plain_fine_tuning_is_known_to_the_byte(finished):
    result = json.loads((finished / "methods.json").read_text())["models"]["conv"]
    costs = {name: row["cost"] for name, row in result["methods"].items()}
    params = 4 * result["num_params"]
    radii = 8  # the leaves of the network, one radius each
    radii_bytes = 4 * (3 * radii + 1)  # with Adam's two moments and count
    extra = {n: c["state"] - costs[PLAIN]["state"] for n, c in costs.items()}
    assert all(c["params"] == params for c in costs.values())
    assert costs[PLAIN]["state"] == 2 * params + 4
    assert extra == {
        "plain": 0,
        "ftp": 2 * params + radii_bytes,
        "tpgm": params + radii_bytes,
    }


def test_the_penalties_and_fixed_radii_keep_one_copy():
    for method in ("l2-sp", "mars-sp", "mars-pgm", "spd"):
        _, params, state, _ = tiny_training(method)
        expected = 3 * cost.num_bytes(params) + 4 + 4  # the counts of Adam and anchor
        assert cost.num_bytes(state) == expected, method


def test_the_run_names_the_machine_but_not_its_owner(finished):
    machine = json.loads((finished / "methods.json").read_text())["machine"]
    assert {"processor", "cores", "backend", "jax", "load", "load_at_end"} <= {*machine}
    assert not {"host", "hostname", "node", "user", "path"} & {*machine}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_with_a_finite_loss(method):
    *_, training = tiny_training(method)
    training.run(1)
    first = training.loss
    training.run(20)
    assert math.isfinite(first)
    assert training.loss < first


@pytest.mark.parametrize("method", METHODS)
def test_every_method_returns_what_it_donates_in_place(method):
    compiled, params, state, _ = tiny_training(method)
    memory = compiled.memory_analysis()
    donated = cost.num_bytes((params, state))
    # The compiler rounds nothing here; the loss is the only new result.
    assert memory.alias_size_in_bytes == donated


def test_every_training_gets_one_block_in_each_round():
    ran = []

    class Recorded:
        def __init__(self, name):
            self.name = name

        def run(self, steps):
            ran.append((self.name, steps))
            return 0.5

    trainings = {name: Recorded(name) for name in "abcd"}
    rounds = list(interleaved(trainings, 20, 3, seed=1))
    assert len(rounds) == 20
    orders = [[name for name, _ in ran[i : i + 4]] for i in range(0, 80, 4)]
    assert all(sorted(order) == list("abcd") for order in orders)
    assert len({tuple(order) for order in orders}) > 5
    assert {steps for _, steps in ran} == {3}
    assert all(list(seconds) == list("abcd") for seconds in rounds)


def shapes_of(name):
    return jax.eval_shape(functools.partial(models.init_params, MODELS[name], 0))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_maps_images_to_logits(name):
    model, batch_size = MODELS[name], 3
    images = jax.ShapeDtypeStruct((batch_size, model.side, model.side, 3), jnp.uint8)
    logits = jax.eval_shape(
        functools.partial(models.logits, model), shapes_of(name), images
    )
    assert logits.shape == (batch_size, models.CLASSES)


def test_the_models_have_the_sizes_they_are_known_by():
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(shapes_of(name)["backbone"]))
        for name in MODELS
    }
    # ResNet-18 without its last stage, batch norm as biases; ViT-Ti/16 has 5,524,416
    # at 224 px, where its position table has 160 rows more than at 96 px.
    assert sizes["resnet"] == 2_780_544
    assert sizes["vit-224"] == 5_524_416
    assert sizes["vit"] == 5_524_416 - 160 * 192
    assert sizes["conv"] < 100_000


def test_the_trunk_takes_given_weights_and_other_models_stay_random(tmp_path):
    file = tmp_path / "trunk.npz"
    given = models.init_params(MODELS["resnet"], seed=1)["backbone"]
    flat = jax.tree.leaves_with_path({"backbone": given})
    names = [jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in flat]
    np.savez(file, **dict(zip(names, [leaf for _, leaf in flat], strict=True)))
    loaded = models.init_params(MODELS["resnet"], 0, file)["backbone"]
    jax.tree.map(np.testing.assert_array_equal, loaded, given)
    plain = models.init_params(MODELS["conv"], seed=0)
    jax.tree.map(
        np.testing.assert_array_equal,
        models.init_params(MODELS["conv"], 0, file),
        plain,
    )


def test_ratios_are_taken_round_by_round():
    slow_spell = np.array([1.0, 1.0, 5.0, 1.0, 3.0])
    assert summary.ratio(1.5 * slow_spell, slow_spell) == (1.5, 1.5, 1.5)
    found = summary.ratio([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert found.median == 2.0
    assert 1.0 <= found.low < found.median < found.high <= 3.0


def test_targets_are_judged_by_median_and_doubted_by_interval():
    def rounds(ftp, tpgm):
        return {
            "conv": [
                {"plain": 1.0, "ftp": f, "tpgm": t}
                for f, t in zip(ftp, tpgm, strict=True)
            ]
        }

    found = summary.verdicts(rounds([1.02] * 4, [2.0] * 4), 32)
    assert [(v["reached"], v["clear"]) for v in found] == [(True, True)] * 2
    found = summary.verdicts(rounds([1.0, 1.1, 1.2], [1.1, 1.2, 1.3]), 32)
    assert [(v["reached"], v["clear"]) for v in found] == [
        (False, False),
        (False, True),
    ]
    assert summary.verdicts(rounds([1.02], [2.0]), 16) == []


def test_copies_inside_a_fusion_are_not_counted():
    hlo = """HloModule jit_step

%fused_computation.1 (p: f32[4,3]) -> f32[3,4] {
  ROOT %copy.1 = f32[3,4]{1,0} copy(%transpose)
}

ENTRY %main.9 (p: f32[4,3]) -> (f32[4,3], f32[3]) {
  %f.2 = f32[3,4]{1,0} fusion(%p), kind=kLoop, calls=%fused_computation.1
  %copy.2 = f32[4,3]{1,0} copy(%p)
  %copy.3 = f32[3]{0} copy(%q)
  %copy.4 = f32[] copy(%r)
}
"""
    assert cost.count_copies(hlo, {12}) == 1


def test_ctrl_c_reports_the_rounds_that_were_finished(tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        yield {"plain": 1.0, "ftp": 1.5}
        raise KeyboardInterrupt

    def prepared(model, method, params, batches):
        *_, training = tiny_training(method)
        return training, cost.Cost(4, 8, 100, 1000.0, 100.0, 0)

    monkeypatch.setattr(methods, "interleaved", interrupted)
    monkeypatch.setattr(methods, "prepare", prepared)
    options = ["--models", "conv", "--methods", "ftp", "--batch-size", "1", "--no-plot"]
    assert methods.main([*options, "--out", str(tmp_path)]) == 130
    result = json.loads((tmp_path / "methods.json").read_text())["models"]["conv"]
    assert len(result["rounds"]) == 1
    assert result["methods"]["ftp"]["time"]["median"] == 1.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "0"], "expected a whole number from 1 on, got 0"),
        (["--batch-size", "many"], "invalid whole number value: 'many'"),
        (["--methods", "sgd"], "invalid choice: 'sgd'"),
        (["--models", "conv", "conv"], "--models: a value is given twice"),
        (["--weights", "missing.npz"], "missing.npz is not a file"),
        (["--seed", "-1"], "expected a number from 0 on"),
    ],
)
def test_bad_options_are_refused(options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        methods.main(options)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arrays", "message"),
    [(None, "cannot be read"), ({"odd": np.zeros(3)}, "Choose the model")],
)
def test_weights_that_do_not_fit_are_refused(arrays, message, tmp_path, capsys):
    file = tmp_path / "weights.npz"
    file.write_text("no weights")
    if arrays is not None:
        np.savez(file, **arrays)
    options = ["--models", "resnet", "--weights", str(file)]
    assert methods.main([*options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("benchmarks.methods: --weights:")
    assert message in error
