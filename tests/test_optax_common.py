"""optax's own tests of a contributed optimizer, run on `with_ftp` and its relatives.

`optax.contrib._common_test` ships in the wheel. Its class body reads two lists of
optimizers, so it is run again here with lists of ours.
"""

import inspect
import unittest

import optax
import pytest
from optax.contrib import _common_test

from ftp_optax import (
    LeafAxes,
    digrap,
    l2_sp,
    mars_pgm,
    mars_sp,
    torch_axes,
    with_ftp,
    with_spd,
)

TESTS_PER_OPTIMIZER = 16  # 2 + 4 + 1 + 2 + 2 + 4 + 1: products over optax's own lists


Rate = optax.ScalarOrSchedule  # as optax asks whether there may be a schedule


def ftp_adamw(learning_rate: Rate, kappa: float = 1.0):
    adamw = optax.adamw(learning_rate, weight_decay=0.0)
    return with_ftp(adamw, kappa, axes=torch_axes)


def ftp_sgd(learning_rate: Rate, kappa: float, initial_radius: float):
    options = {"initial_radius": initial_radius, "axes": torch_axes}
    return with_ftp(optax.sgd(learning_rate), kappa, **options)


def l2_sp_adam(learning_rate: Rate, strength: Rate):
    return optax.chain(l2_sp(strength), optax.adam(learning_rate))


def mars_sp_adam(learning_rate: Rate, strength: Rate):
    penalty = mars_sp(strength, decoupled=True, axes=torch_axes)
    return optax.chain(optax.adam(learning_rate), penalty)


def mars_pgm_adam(learning_rate: Rate, radius: Rate):
    return optax.chain(optax.adam(learning_rate), mars_pgm(radius, axes=torch_axes))


def spd_adam(learning_rate: Rate, strength: Rate):
    return with_spd(optax.adam(learning_rate), strength, axes=torch_axes)


def digrap_adam(learning_rate: Rate):
    return optax.chain(digrap(axes=torch_axes), optax.adam(learning_rate))


LINKS = (l2_sp_adam, mars_sp_adam, mars_pgm_adam, spd_adam, digrap_adam)
FACTORIES = {f.__name__: f for f in (with_ftp, ftp_adamw, ftp_sgd, *LINKS)}


def alias(name, wrapper=None, wrapper_kwargs=None, **kwargs):
    return {
        "opt_name": name,
        "opt_kwargs": kwargs,
        "wrapper_name": wrapper,
        "wrapper_kwargs": wrapper_kwargs,
    }


def wrapped(name, ftp_kwargs, **kwargs):
    return alias(name, "with_ftp", {"axes": LeafAxes(rows=0), **ftp_kwargs}, **kwargs)


# With these rates the base optimizers themselves converge on all of optax's targets.
OPTIMIZERS = (
    alias("ftp_adamw", learning_rate=1e-2),
    alias("ftp_sgd", learning_rate=1e-3, kappa=0.5, initial_radius=1.0),
    wrapped("sgd", {"kappa": 0.0}, learning_rate=1e-4, momentum=0.9, nesterov=True),
    wrapped("adam", {"hypergradient": "active"}, learning_rate=1e-2),
    wrapped("lion", {"norm": "frobenius"}, learning_rate=1e-3),
    # Holds so slight, or so wide, that the targets stay within reach.
    alias("l2_sp_adam", learning_rate=1e-2, strength=1e-5),
    alias("mars_sp_adam", learning_rate=1e-2, strength=1e-6),
    alias("mars_pgm_adam", learning_rate=1e-2, radius=100.0),
    alias("spd_adam", learning_rate=1e-2, strength=0.5),
    alias("digrap_adam", learning_rate=1e-3),
)


def common_tests() -> type[unittest.TestCase]:
    """`ContribTest` with its class body run anew on `OPTIMIZERS`."""
    original = _common_test.ContribTest
    namespace = {
        **vars(_common_test),
        "_MAIN_OPTIMIZERS_UNDER_TEST": OPTIMIZERS,
        "_ALL_OPTIMIZERS_UNDER_TEST": OPTIMIZERS,
    }
    lines_before = inspect.getsourcelines(original)[1] - 1
    source = "\n" * lines_before + inspect.getsource(original)
    exec(compile(source, _common_test.__file__, "exec"), namespace)
    return namespace["ContribTest"]


@pytest.fixture(autouse=True)
def _factories_in_contrib(monkeypatch):
    for name, factory in FACTORIES.items():
        monkeypatch.setattr(optax.contrib, name, factory, raising=False)


class TestOptaxCommon(common_tests()):
    def skipTest(self, reason):  # noqa: N802 (its name in unittest)
        self.fail(f"optax would have skipped this test: {reason}")


def test_every_common_test_was_generated_for_every_optimizer():
    ours = [name for name in dir(TestOptaxCommon) if name.startswith("test")]
    assert len(ours) == TESTS_PER_OPTIMIZER * len(OPTIMIZERS)
    # optax's own class has the same tests by name, each followed by a number.
    kinds = {name.rstrip("0123456789") for name in ours}
    originals = [n for n in dir(_common_test.ContribTest) if n.startswith("test")]
    assert kinds == {name.rstrip("0123456789") for name in originals}


def test_optax_contrib_is_left_as_it_was(monkeypatch):
    monkeypatch.undo()
    assert not [name for name in FACTORIES if hasattr(optax.contrib, name)]
