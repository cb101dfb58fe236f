"""What is counted, timed and compared agrees with counts by hand."""

# ruff: noqa: E402
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

for package in ("flax", "matplotlib", "absl"):
    pytest.importorskip(package, reason="needs the extra `experiments`")

from benchmarks import contenders, cost, measure
from benchmarks.contenders import METHODS, MODELS, MODES, PLAIN
from benchmarks.measure import COLUMNS, Case, Step, ratio
from benchmarks.scaling import slope
from benchmarks.show import told

# ---- By the compiler's account -------------------------------------------------------


def test_a_step_of_sgd_reads_two_arrays_and_writes_one():
    kernel = lambda: {"kernel": jnp.ones((256, 512))}
    step = contenders.update_step(optax.sgd(0.1), kernel(), kernel())
    size = 4 * 256 * 512
    step(3)
    account = step.account()
    assert account["params"] == size
    assert account["state"] == account["copies"] == account["between"] == 0
    assert account["traffic"] == 3 * size
    assert account["memory"] - account["temporaries"] == 2 * size  # one is donated
    assert account["programs"] == 1
    np.testing.assert_allclose(step.results[0]["kernel"], 0.7, rtol=1e-6)


def test_returning_what_is_donated_in_another_order_copies_it():
    swapped = lambda a, b: (b + 1.0, a + 1.0, b)
    kernel = lambda: {"kernel": jnp.ones((64, 32))}["kernel"]
    assert Step(swapped, kernel(), kernel(), []).cost["copies"] > 0


def test_copies_inside_a_fusion_are_not_counted():
    hlo = """HloModule jit_step

%fused_computation.1 (p: f32[4,3]) -> f32[3,4] {
  ROOT %copy.1 = f32[3,4]{1,0} copy(%transpose)
}

ENTRY %main.9 (p: f32[4,3]) -> (f32[4,3], f32[3]) {
  %p = f32[4,3]{1,0} parameter(0)
  %f = f32[3,4]{1,0} fusion(%p), kind=kLoop, calls=%fused_computation.1
  %copy.2 = f32[4,3]{1,0} copy(%p)
  ROOT %copy.3 = f32[3]{0} copy(%b)
}
"""
    assert cost.count_copies(hlo, {12}) == 1


# A collective, what it moves, and how many bytes that is.
COLLECTIVES = [
    ("f32[8,16]{1,0} all-reduce(%x), channel_id=1, to_apply=%add", ["f32"], 512),
    ("(f32[8,16]{1,0}, bf16[]) all-reduce(%x, %y)", ["f32", "bf16"], 514),
    ("f32[8,16]{1,0} all-reduce-start(%x), to_apply=%add", ["f32"], 512),
    ("f32[64,16]{1,0} all-gather(f32[8,16]{1,0:T(8,128)} %x)", ["f32"], 4096),
    ("(f32[8,16], f32[64,16]) all-gather-start(%x), dimensions={0}", ["f32"], 4096),
    ("f32[1,16]{1,0} reduce-scatter(%x), dimensions={0}", ["f32"], 512),
    ("(f32[8,16], f32[8,16], u32[], u32[]) collective-permute-start(%x)", ["f32"], 512),
    ("pred[100]{0} all-reduce(%p), to_apply=%or", ["pred"], 100),
    ("f8e4m3fn[32]{0} all-to-all(%e), dimensions={0}", ["f8e4m3fn"], 32),
    ("pred[100]{0} collective-broadcast(%p)", ["pred"], 100),
]
AROUND = """
  %x = f32[8,16]{1,0} parameter(0)
  %y = bf16[]{:T(256)} parameter(1)
  %p = pred[100]{0} parameter(2)
  %e = f8e4m3fn[32]{0} parameter(3)
INSTRUCTIONS
  %done = f32[64,16]{1,0} all-gather-done(%found)
  ROOT %sum = f32[8,16]{1,0} add(%x, %x)
"""


def test_what_devices_send_is_read_off_the_program():
    lines = [f"  %c.{i} = {text}" for i, (text, *_) in enumerate(COLLECTIVES)]
    collected = cost.collectives(AROUND.replace("INSTRUCTIONS", "\n".join(lines)))
    for (text, dtypes, size), collective in zip(COLLECTIVES, collected, strict=True):
        assert f" {collective.kind}" in text
        assert [array.dtype for array in collective.arrays] == dtypes, text
        assert collective.bytes == size, text


# ---- Contenders ----------------------------------------------------------------------


def loss(weights, batch):
    x, y = batch
    hidden = jnp.tanh(x @ weights["body"]["kernel"] + weights["body"]["bias"][None])
    return jnp.mean((hidden @ weights["head"]["kernel"] - y) ** 2)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_in_place_and_keeps_the_copies_it_is_known_for(method):
    params = {
        "body": {"kernel": jnp.full((4, 3), 0.5), "bias": jnp.zeros(3)},
        "head": {"kernel": jnp.full((3, 2), 0.25)},
    }
    keys = jax.random.split(jax.random.key(0), 2)
    batches = tuple((jax.random.normal(k, (5, 4)), jnp.ones((5, 2))) for k in keys)
    step = contenders.training_step(method, loss, params, batches)
    # The loss is the only new result. Radii and counts are the rest of a state; some of
    # them a step only writes, and what it does not read is not donated.
    donated = step.cost["params"] + step.cost["state"]
    aliased = step.compiled.memory_analysis().alias_size_in_bytes
    assert donated - (60 if method == "ftp" else 0) == aliased
    step(1)
    first = float(step.results[2])
    step(20)
    assert float(step.results[2]) < first
    copies = {PLAIN: 2, "ftp": 4, "digrap": 4}.get(method, 3)
    counters_and_radii = step.cost["state"] - copies * step.cost["params"]
    assert 0 < counters_and_radii < 4 * 64


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_updates_with_one_program(mode):
    *_, makers = contenders.updates(contenders.small_leaves(3), [mode])
    assert list(makers) == [PLAIN, mode]
    step = makers[mode]()
    # An anchor on the host is bound to its device, and binds there all that the first
    # step returns: the second one is compiled anew, and no other.
    step(4)
    assert step.account()["programs"] == (2 if mode == "host" else 1)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(step.results[0]))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_its_size_and_a_loss(name):
    _, make, side = MODELS[name]
    kept = []

    def run(images, labels):
        weights, loss = contenders.trained(make)
        kept.append(contenders.size(weights["backbone"]))
        return loss(weights, (images, labels))

    images = jax.ShapeDtypeStruct((3, side, side, 3), jnp.uint8)
    labels = jax.ShapeDtypeStruct((3,), jnp.int32)
    assert jax.eval_shape(run, images, labels).shape == ()
    # ResNet-18 without its last stage, batch norm as biases; ViT-Ti/16 has 5,524,416
    # at 224 px, where its position table has 160 rows more than at 96 px.
    sizes = {"resnet": 2_780_544, "vit": 5_524_416 - 160 * 192, "vit-224": 5_524_416}
    assert kept == [sizes.get(name, 93_248)]


def test_the_trees_have_the_sizes_they_are_known_by():
    sizes = {}
    for name, (_, shapes) in contenders.TREES.items():
        sizes[name] = contenders.size(shapes()), len(jax.tree.leaves(shapes()))
    assert sizes["vit-b"] == (86_567_656, 200)  # timm's vit_base_patch16_224
    assert (sizes["leaves-400"][1], sizes["tiny"][1]) == (400, 7)
    for num_params, count in ((1e5, 10), (1e7, 1000), (3e8, 24)):
        tree = contenders.even(num_params, count)
        assert contenders.size(tree) == pytest.approx(num_params, rel=0.08)


# ---- By the clock --------------------------------------------------------------------


def test_every_contender_gets_one_block_in_each_round_in_an_order_drawn_anew():
    ran, accounts = [], {}
    seconds = {"slow": 5.0, "fast": 0.1, "other": 1.0}

    def maker(name):
        return lambda: lambda steps: (ran.append((name, steps)), seconds[name])[1]

    case = Case("", "", {name: maker(name) for name in seconds}, rounds=20)
    *_, done = measure.take_turns(case, accounts)
    assert done == "round 20 of 20"
    rounds = [tuple(ran[i : i + 3]) for i in range(6, len(ran), 3)]
    # As many steps as take about 0.3 seconds.
    assert all({*each} == {("slow", 1), ("fast", 4), ("other", 1)} for each in rounds)
    assert len(rounds) == 20
    assert len({*rounds}) > 4
    assert accounts["fast"]["time"] == [0.1] * 20


def test_each_compilation_starts_from_nothing():
    *_, makers = contenders.updates({"kernel": contenders.shaped((4, 3))}, [])
    anew = makers[PLAIN]().compile_anew
    # What is remembered takes well below a millisecond.
    assert min(anew(1) for _ in range(2)) > 2e-3


def test_ratios_are_taken_round_by_round():
    slow_spell = np.array([1.0, 1.0, 5.0, 1.0, 3.0])
    exactly = {"median": 1.5, "low": 1.5, "high": 1.5}
    assert ratio(1.5 * slow_spell, slow_spell) == exactly
    noisy = ratio([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert 1.0 <= noisy["low"] < noisy["median"] == 2.0 < noisy["high"] <= 3.0
    assert told(exactly) == "1.500"
    assert told({"median": 2.1, "low": -1.9, "high": 2.3}) == "2.100 (-1.900 to 2.300)"


def test_slopes_of_powers_are_their_exponents():
    x = [1.0, 2.0, 4.0, 8.0]
    for power in (-1.0, 0.0, 1.0, 1.5):
        exact = slope(x, [3 * v**power for v in x])
        np.testing.assert_allclose(list(exact.values()), power, atol=1e-7)
    bent = slope(x, [1.0, 2.4, 3.6, 8.2])
    assert bent["low"] < 1 < bent["high"]
    assert slope([1, 2], [1, 2])["low"] == pytest.approx(1)


PLAINS = {"params": 4, "state": 8, "memory": 10, "temporaries": 1, "traffic": 40.0}
PLAINS |= {"flops": 6.0, "copies": 3, "programs": 1, "device": 8, "host": 0}
PLAINS |= {"images": 30, "time": [1.0, 2.0], "compile": [2.0]}
OWNS = {"params": 4, "state": 16, "memory": 15, "temporaries": 2, "traffic": 76.0}
OWNS |= {"flops": 9.0, "copies": 0, "programs": 2, "device": 12, "host": 4}
OWNS |= {"images": 30, "time": [3.0, 6.0], "compile": [8.0]}
OTHERS = {
    "l2-sp": {"time": [2.0, 4.0]},
    "ftp": {"time": [6.0, 12.0]},
    "published": {"time": [4.0, 8.0]},
    measure.COPYING: {"traffic": 19.0, "time": [0.5, 1.0]},
}
BY_HAND = {"images/s": 30 / 4.5, "time": 3.0, "compile": 4.0, "memory": 1.5}
BY_HAND |= {"of L2-SP": 1.5, "of FTP": 0.5, "of published": 0.75, "of limit": 1.5}
BY_HAND |= {"passes": 19.0, "traffic": 1.9, "copies": 0, "state": 4.0, "programs": 2}
BY_HAND |= {"temporaries": 0.5, "FLOPs": 1.5, "device": 1.0, "host": 1.0}
BY_HAND |= {"GB/s": 76 / 4.5e9}


def test_every_column_is_what_its_legend_says():
    accounts = {PLAIN: PLAINS, "explicit": OWNS, **OTHERS}
    unfinished = accounts | {"explicit": OWNS | {"time": []}}
    assert BY_HAND.keys() == COLUMNS.keys()
    for column, expected in BY_HAND.items():
        figure = measure.figure(accounts, "explicit", column)
        middle = figure["median"] if isinstance(figure, dict) else figure
        assert middle == pytest.approx(expected), column
        assert measure.figure({PLAIN: PLAINS}, "explicit", column) is None
        timed = COLUMNS[column].quantities.startswith("time")
        assert (measure.figure(unfinished, "explicit", column) is None) == timed
    # Another framework's step has no account by the compiler.
    assert measure.figure(accounts | {PLAIN: PLAINS}, "l2-sp", "of limit") is None
