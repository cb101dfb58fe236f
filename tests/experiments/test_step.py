"""The schedule, the frozen leaves and the probe, each against its definition."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from ml_collections import FrozenConfigDict
from sklearn.linear_model import LogisticRegression

from experiments import probing
from experiments.configs import base
from experiments.methods import METHODS, Held, only
from experiments.models.layers import batch_norm, normalise
from experiments.optimizer import layer_scales, schedule
from experiments.step import (
    Knobs,
    Training,
    init_state,
    predict,
    rule,
    train_step,
)
from experiments.tasks.classification import TASK, accuracy, logistic_regression
from experiments.tasks.task import Features


def recipe(**changes):
    return FrozenConfigDict(base.get_config().recipe.to_dict() | changes)


def training(graphdef=None, **changes):
    """Fine-tuning."""
    return Training(recipe(**changes), 0, "fine-tune", Held(), TASK, graphdef)


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine():
    rate = schedule(recipe(steps=110, final_scale=0.1), 10, 0.5)
    assert rate(0) == 0
    assert rate(5) == pytest.approx(0.25)
    assert rate(10) == pytest.approx(0.5)
    middle = 0.05 + 0.45 * (1 + math.cos(math.pi / 2)) / 2
    assert rate(60) == pytest.approx(middle, rel=1e-5)
    assert rate(110) == pytest.approx(0.05)


def test_without_warm_up_the_first_step_has_the_highest_rate():
    assert schedule(recipe(steps=10), 0, 0.5)(0) == 0.5


def test_the_rate_stays_the_same_for_an_epoch_where_the_recipe_says_so():
    smooth = schedule(recipe(steps=12), 0, 0.5)
    held = schedule(recipe(steps=12, decay_each="epoch"), 0, 0.5, 4)
    assert [held(i) for i in range(12)] == [smooth(i // 4 * 4) for i in range(12)]


def test_a_layer_has_a_share_of_the_rate_of_the_layer_after_it():
    layers = (
        *("backbone/conv1/kernel", "backbone/bn1/scale"),
        *("backbone/layer1/0/conv1/kernel", "backbone/layer1/0/bn1/scale"),
        *("backbone/layer1/1/conv1/kernel", "backbone/norm/scale", "head/kernel"),
    )
    scales = layer_scales(layers, 0.5)
    assert [*scales.values()] == [0.125, 0.125, 0.25, 0.25, 0.5, 1.0, 1.0]
    params = {"a": {"0": {"kernel": jnp.ones(2)}}, "head": {"kernel": jnp.ones(2)}}
    fixed = training(steps=10, layer_decay=0.5, optimizer="sgd", momentum=0.0)
    fixed = fixed._replace(layers=("a/0/kernel", "head/kernel"))
    method = rule(fixed, Knobs(0.1, 0.0))
    new, _ = method.step(params, method.init(params), params, None)
    np.testing.assert_allclose(new["a"]["0"]["kernel"], 0.95)
    np.testing.assert_allclose(new["head"]["kernel"], 0.9)


def test_leaves_that_do_not_match_stand_still_even_under_weight_decay():
    params = {"trunk": {"kernel": jnp.ones(2)}, "head": {"kernel": jnp.ones(2)}}
    tx = only(optax.adamw(0.1, weight_decay=1.0), "^head/")
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(grads, tx.init(params), params)
    assert not updates["trunk"]["kernel"].any()
    assert updates["head"]["kernel"].all()


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_base_optimizer_is_optax_and_clips_the_gradient(name):
    params, grads = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([30.0, 40.0])}
    chosen = {"weight_decay": 0.1, "clip_norm": 1.0, "momentum": 0.7}
    method = rule(training(optimizer=name, steps=10, **chosen), Knobs(0.01, 0.0))
    new, _ = method.step(grads, method.init(params), params, None)
    clipped = np.array([0.6, 0.8])
    if name == "adamw":
        step = -0.01 * (np.sign(clipped) + 0.1 * np.array([1.0, -2.0]))
    else:
        decayed = clipped + 0.1 * np.array([1.0, -2.0])
        step = -0.01 * 1.7 * decayed  # Nesterov's first step, momentum 0.7
    np.testing.assert_allclose(new["w"], params["w"] + step, rtol=1e-5)


def test_every_entry_of_the_registry_says_what_its_strength_is():
    for name, method in METHODS.items():
        assert name == name.lower()
        assert method.strength is None or method.strength.default > 0


class Normed(nnx.Module):
    """The mean colour of an image, behind a batch norm and a dense layer."""

    def __init__(self, rngs):
        self.norm = batch_norm(3, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, images, *, train):
        return self.head(normalise(self.norm, images / 255, train).mean((1, 2)))


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_statistics_train_the_network_that_is_tested(freeze):
    images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 3), maxval=255.0)
    batch = {"image": images, "target": jnp.arange(4)}
    graphdef, *parts = nnx.split(Normed(nnx.Rngs(0)), nnx.Param, ...)
    params, statistics = map(nnx.to_pure_dict, parts)
    logits = predict(graphdef, params, statistics, images)
    loss = float(TASK.loss(logits, batch["target"], 0.0))
    before = jax.tree.map(np.array, statistics)
    fixed = training(graphdef, steps=1, freeze_statistics=freeze)
    knobs = Knobs(1e-3, 0.0)
    given = init_state(fixed, knobs, params, statistics)
    state, scalars = train_step(fixed, knobs, given, batch, None)
    for leaf in jax.tree.leaves((given.params, given.method)):
        assert leaf.is_deleted(), "a step must not hold the state twice"
    assert (float(scalars["loss"]) == pytest.approx(loss, rel=1e-5)) is freeze
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.statistics, before)
    assert any(jax.tree.leaves(moved)) is not freeze


def features(classes, n=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n).astype(np.int32)
    centres = rng.normal(0, 1, (classes, 6))
    scale = np.array([1, 10, 0.1, 1, 1, 5])
    inputs = (centres[labels] + rng.normal(0, 0.8, (n, 6))) * scale + 3
    return Features(inputs.astype(np.float32), labels)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_probed_head_predicts_what_scikit_learn_predicts(classes):
    train = features(classes)
    head = logistic_regression(train, classes, 1.0)
    scaled = (train.vectors - train.vectors.mean(0)) / train.vectors.std(0)
    model = LogisticRegression(C=1.0, max_iter=2000).fit(scaled, train.targets)
    logits = train.vectors @ head.kernel + head.bias
    np.testing.assert_allclose(
        jax.nn.softmax(logits), model.predict_proba(scaled), atol=2e-3
    )


def test_a_class_without_examples_is_never_predicted():
    train = features(3)
    head = logistic_regression(train, 5, 1.0)
    assert (train.vectors @ head.kernel + head.bias).argmax(-1).max() == 2


def test_the_strength_of_a_probe_is_chosen_on_the_validation_set():
    train, validation = features(4), features(4, seed=1)
    head = probing.best_head(probing.Probing(train, validation), TASK, 4)
    heads = [logistic_regression(train, 4, c) for c in probing.STRENGTHS]
    best = max(accuracy(head, validation) for head in heads)
    assert accuracy(head, validation) == best


@pytest.mark.parametrize("name", ["l2-sp", "mars-pgm", "ftp", "tpgm"])
def test_a_method_is_told_what_to_hold_and_near_what(name):
    params = {"a": {"kernel": jnp.ones((2, 3))}, "head": {"kernel": jnp.ones((2, 3))}}
    grads = jax.tree.map(lambda x: -x, params)  # away from zero
    loss = lambda params: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))

    def stepped(held):
        fixed = training(steps=10)._replace(method=name, held=held)
        method = rule(fixed, Knobs(0.1, 0.5))
        state, new = method.init(params), params
        for _ in range(3):
            new, state = method.step(grads, state, new, loss)
        return new["a"]["kernel"], new["head"]["kernel"]

    held, free = stepped(Held(exclude=("^head/",)))
    near_zero, also_free = stepped(Held(exclude=("^head/",), anchor=0.0))
    np.testing.assert_array_equal(free, also_free)
    assert (np.abs(near_zero) < np.abs(held)).all()
