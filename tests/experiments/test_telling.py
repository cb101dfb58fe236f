"""What a finished run says of itself."""

import jax
import jax.numpy as jnp
import optax
import pytest

from experiments import telling
from experiments.methods import METHODS, Held
from experiments.tasks.task import Metric
from ftp_optax import radii


def test_a_run_is_told_beside_its_start_in_lines_of_eighty_columns():
    figures = lambda group, accuracy, images: {
        "group": group,
        "accuracy": accuracy,
        "images": images,
    }
    record = {
        "method": "ftp",
        "metric": Metric("accuracy")._asdict(),
        "evaluation": {
            "photo": figures("id", 0.88, 499),
            "a name that is much too long for a line": figures("ood", 0.3, 500),
            "sketch": figures("ood", None, 20),
        },
        "start_evaluation": {
            "evaluation": {
                "photo": figures("id", 0.9, 499),
                "sketch": figures("ood", 0.1, 20),
            }
        },
    }
    lines = telling.told(record)
    assert [" ".join(line.split()) for line in lines] == [
        "accuracy in % start now change",
        "photo 90.0 88.0 -2.0 95 %: 84.8 to 90.5, 499 images",
        "a name that is much to – 30.0 –",
        "sketch 10.0 – –",
    ]
    assert max(map(len, lines)) <= 80
    del record["start_evaluation"]
    assert telling.told(record)[1].split()[:4] == ["photo", "–", "88.0", "–"]
    record["metric"] |= {"name": "mean_iou"}
    record["evaluation"] = {"photo": figures("id", 0.5, 20) | {"mean_iou": 0.25}}
    assert telling.told(record)[1].split() == ["photo", "–", "25.0", "–"]


@pytest.mark.parametrize("method", [k for k, m in METHODS.items() if m.radius_rate])
def test_a_radius_rate_is_what_a_radius_grows_by_a_step(method):
    rule = METHODS[method].rule(optax.sgd(1.0), 0.0, Held())
    params = {"w": jnp.ones((4, 4))}
    state, seen = rule.init(params), []
    for _ in range(12):  # always in one direction, so that no radius shrinks
        grads = jax.tree.map(jnp.ones_like, params)
        params, state = rule.step(grads, state, params, None)
        seen.append(float(radii(state, params)["w"]))
    grown = (seen[-1] - seen[1]) / (len(seen) - 2)
    assert grown == pytest.approx(METHODS[method].radius_rate, rel=0.5)


def test_what_a_radius_can_come_to_is_said_of_a_short_run_alone():
    record = {"method": "ftp", "steps": 30, "setting": {"strength": 0.1}}
    assert telling.reach(record) == (
        "30 steps at a radius rate of 0.01: a radius comes to about 0.3 at most."
    )
    assert "rate of 0.1: a radius comes to about 3 at" in telling.reach(
        record | {"method": "tpgm"}
    )
    assert telling.reach(record | {"steps": 500}) == ""
    assert telling.reach(record | {"method": "fine-tune"}) == ""
