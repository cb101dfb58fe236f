"""Mixup and CutMix, and what else a recipe makes of a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import FrozenConfigDict

from experiments import models
from experiments.configs import base
from experiments.methods import Held
from experiments.mixing import mix
from experiments.step import Knobs, Training, init_state, predict, train_step
from experiments.tasks.classification import TASK

LABELS = jnp.array([0, 1, 1, 3])
IMAGES = jnp.stack([jnp.full((8, 12, 3), value, jnp.uint8) for value in (0, 80, 200)])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ways", [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_pixels_are_shared_as_the_labels_are(ways, seed):
    mixed, share = mix(jax.random.key(seed), IMAGES, *ways)
    both = share * IMAGES + (1 - share) * IMAGES[::-1]
    np.testing.assert_allclose(mixed.mean((1, 2)), both.mean((1, 2)), atol=1e-3)
    assert 0 <= share <= 1


def test_a_batch_is_blended_or_cut_and_no_two_alike():
    seen = [mix(jax.random.key(seed), IMAGES, 1.0, 1.0) for seed in range(16)]
    whole = [bool(jnp.ptp(images[0]) == 0) for images, _ in seen]
    assert 3 < sum(whole) < 13
    assert len({float(share) for _, share in seen}) > 12
    cut = seen[whole.index(False)][0][0, ..., 0]
    assert {*np.unique(cut)} == {0.0, 200.0}
    rows, columns = np.nonzero(np.array(cut))
    assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == len(rows)  # a rectangle


def trained(steps=1, allowed=None, seed=0, **changes):
    """A small network's states before and after each step, and what the last saw."""
    scalars = {}
    recipe = base.get_config().recipe.to_dict() | {"steps": 10, **changes}
    model = models.create("small", 4, rngs=nnx.Rngs(0), dtype=jnp.float32)
    graphdef, *parts = nnx.split(model, nnx.Param, ...)
    fixed = Training(
        FrozenConfigDict(recipe),
        0,
        "fine-tune",
        Held(),
        TASK,
        graphdef,
        allowed=allowed,
    )
    knobs = Knobs(1e-2, 0.0, seed)
    images = jax.random.randint(jax.random.key(1), (4, 16, 16, 3), 0, 256)
    batch = {"image": images.astype(jnp.uint8), "target": LABELS}
    states = [init_state(fixed, knobs, *map(nnx.to_pure_dict, parts))]
    for _ in range(steps):
        given = jax.tree.map(jnp.copy, states[-1])  # which is donated
        state, scalars = train_step(fixed, knobs, given, batch, None)
        states.append(state)
    return graphdef, states, batch, scalars


def test_what_a_step_draws_follows_from_the_seed_and_its_number():
    heads = [
        trained(mixup=0.8, cutmix=1.0, seed=seed)[1][-1].params["head"]["kernel"]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(heads[0], heads[1])
    assert (heads[0] != heads[2]).any()


def test_a_moving_average_of_the_parameters_is_what_is_evaluated():
    _, states, *_ = trained(steps=3, ema=0.75)
    mean = states[0].params
    for state in states[1:]:
        mean = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, mean, state.params)
    got, statistics = states[-1].model
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, mean)
    assert statistics is states[-1].statistics
    assert trained(steps=1)[1][-1].mean == {}


class Drops(nnx.Module):
    """Gives a pixel, or where it may draw what to leave out, that or nothing."""

    def __init__(self):
        self.head = nnx.Linear(3, 4, rngs=nnx.Rngs(0))

    def __call__(self, images, *, train, rng=None):
        pixels = images[:, 0, 0].astype(jnp.float32)
        if rng is not None:
            pixels *= jax.random.bernoulli(rng, shape=(len(pixels), 1))
        return self.head(pixels)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_a_model_leaves_out_is_drawn_anew_in_every_step_and_part(accumulate):
    recipe = base.get_config().recipe.to_dict() | {"steps": 9, "accumulate": accumulate}
    graphdef, params, _ = nnx.split(Drops(), nnx.Param, ...)
    fixed = Training(FrozenConfigDict(recipe), 0, "fine-tune", Held(), TASK, graphdef)
    batch = {"image": jnp.full((8, 2, 2, 3), 9, jnp.uint8), "target": jnp.arange(8) % 4}

    def losses(seed, drops, steps=6):
        training, knobs = fixed._replace(drops_paths=drops), Knobs(0.0, 0.0, seed)
        state = init_state(training, knobs, nnx.to_pure_dict(params), {})
        found = []
        for _ in range(steps):
            state, scalars = train_step(training, knobs, state, batch, None)
            found.append(float(scalars["loss"]))
        return found

    assert len(set(losses(0, drops=False))) == 1  # the rate is 0
    assert len(set(losses(0, drops=True))) > 2
    assert losses(0, drops=True) == losses(0, drops=True)
    assert losses(0, drops=True) != losses(1, drops=True)


def test_a_class_that_does_not_count_gets_no_gradient():
    some = (True, True, False, True)
    for allowed, moves in ((some, [*some]), (None, [True] * 4)):
        _, states, *_ = trained(steps=2, allowed=allowed)
        moved = np.abs(states[-1].params["head"]["kernel"]).sum(0) > 0
        assert moved.tolist() == moves


def test_a_mixed_batch_is_learned_with_both_labels():
    graphdef, states, batch, scalars = trained(steps=2, mixup=1.0)
    key = jax.random.fold_in(jax.random.key(0), 1)
    images, share = mix(key, batch["image"], 1.0, 0.0)
    logits = predict(graphdef, states[1].params, states[1].statistics, images)
    one, other = (TASK.loss(logits, t, 0.0) for t in (LABELS, LABELS[::-1]))
    expected = share * one + (1 - share) * other
    assert float(scalars["loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert abs(float(one - other)) > 1e-3
