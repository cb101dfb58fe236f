"""What an update says when it refuses its input."""

import jax
import pytest


def refused(tx, updates, state, params, **extra_args):
    """The message: eagerly, and the same while tracing."""
    # The message is returned to be compared, so there is nothing to match here.
    with pytest.raises(ValueError) as eager:  # noqa: PT011
        tx.update(updates, state, params, **extra_args)
    with pytest.raises(ValueError) as traced:  # noqa: PT011
        jax.eval_shape(tx.update, updates, state, params, **extra_args)
    assert str(eager.value) == str(traced.value)
    return str(eager.value)
