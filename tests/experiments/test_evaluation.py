"""Domains, what may be answered in them, and the summary over them."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from experiments import evaluation, models
from experiments.configs import base
from experiments.data.batches import Sizes
from experiments.data.examples import LABEL, Examples
from experiments.data.sources import open_source
from experiments.evaluation import Domain, Evaluator
from experiments.step import Placement, predict
from experiments.tasks import classification, segmentation
from experiments.tasks.classification import Tally

pytestmark = pytest.mark.usefixtures("mocked_data")


def network(classes=10):
    model = models.create("small", classes, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    model.head.kernel[...] = rng.normal(size=model.head.kernel.shape) / 300
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


def measured(net, domain, *sizes, **options):
    task, (graphdef, *model) = classification.TASK, net
    sizes = Sizes(*sizes, **options)
    evaluator = Evaluator(task, graphdef, sizes, Placement(), domain.source, {})
    return evaluator.measure(tuple(model), domain)


def test_figures_are_those_of_the_predictions():
    source, net = open_source("cifar10:test"), network()
    crop = slice(8, 24)
    found = measured(net, Domain("id", source), 16, (16, 16), resize=32)
    images = np.stack([source[i]["image"][crop, crop] for i in range(len(source))])
    right = np.asarray(predict(*net, images)).argmax(-1) == source.labels
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["images"] == 24


@pytest.mark.parametrize("limit", [None, 5])
def test_a_limit_is_one_of_the_tests_and_not_of_validation(limit):
    source, (graphdef, *model) = open_source("cifar10:test"), network()
    sizes = Sizes(16, (16, 16), limit=limit)
    task, placement = classification.TASK, Placement()
    evaluator = Evaluator(task, graphdef, sizes, placement, source, {})
    found = evaluator.measure(tuple(model), Domain("id", source))
    assert found["images"] == (limit or len(source))
    whole = evaluator._replace(sizes=Sizes(16, (16, 16)))
    expected = whole.measure(tuple(model), Domain("id", source))["accuracy"]
    assert evaluator.validate(tuple(model)) == expected
    assert (found["accuracy"] == expected) == (limit is None)


def test_a_domain_can_be_answered_with_its_own_classes_only():
    whole, net = open_source("cifar10:test"), network()
    records = [whole.examples.records[i] for i in range(4)]
    source = dataclasses.replace(whole, examples=Examples(records, LABEL, "label"))
    few = np.unique(source.labels)
    assert len(few) < 10
    looked = base.get_config().evaluation
    looked.own_classes = ("few",)
    domain = evaluation.domains({"few": source}, looked)["few"]
    np.testing.assert_array_equal(np.flatnonzero(domain.allowed), few)
    every = measured(net, Domain("ood", source), 16, (16, 16))
    own = measured(net, domain, 16, (16, 16))
    assert own["nll"] < every["nll"]


def test_counts_of_batches_add_up_beyond_what_a_float32_can_count():
    many = np.array([[2**24]], np.int32)
    one = Tally(many, np.ones(15, np.float32), np.float32(2**24), np.int32(1))
    few = one._replace(confusion=many // many, nll=np.float32(1))
    total = evaluation._sum([one, few])
    assert (total.confusion.item(), total.nll.item()) == (2**24 + 1, 2**24 + 1)


def test_domains_are_the_tests_and_every_corruption_of_the_first():
    source = open_source("cifar10:test")
    tests = {"photo": source, "sketch": source}
    looked = base.get_config().evaluation
    looked.id, looked.corruptions, looked.severities = "photo", ("fog", "snow"), (1, 5)
    found = evaluation.domains(tests, looked)
    assert {name: d.group for name, d in found.items()} == {
        "photo": "id",
        "sketch": "ood",
        "photo/fog/1": "corruption",
        "photo/fog/5": "corruption",
        "photo/snow/1": "corruption",
        "photo/snow/5": "corruption",
    }
    assert found["photo/snow/5"].corruption == ("snow", 5)


def test_a_summary_is_the_mean_over_each_group():
    figures = {
        "photo": {"group": "id", "accuracy": 0.8},
        "art": {"group": "ood", "accuracy": 0.5},
        "sketch": {"group": "ood", "accuracy": 0.1},
    }
    found = evaluation.summarise(figures, classification.TASK.metric)
    assert found["ood"] == pytest.approx(0.3)
    assert found["relative_robustness"] == pytest.approx(0.375)
    assert found["corruption"] is None
    only = {
        "clean": {"group": "id", "mean_iou": 0.5},
        "clean/fog/1": {"group": "corruption", "mean_iou": 0.4},
    }
    found = evaluation.summarise(only, segmentation.TASK.metric)
    assert (found["ood"], found["relative_robustness"]) == (None, pytest.approx(0.8))
