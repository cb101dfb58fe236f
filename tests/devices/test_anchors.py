"""An anchor from outside lies where the params do, not whole on every device."""

import pytest

from devices import anchor_cases, placements


@pytest.mark.parametrize("mode", placements.MODES)
@pytest.mark.parametrize("source", ["number", "number, jit", "reset", "reset, jit"])
def test_an_anchor_from_the_host_is_put_where_the_params_are(eight, mode, source):
    assert eight(anchor_cases.of_anchor, mode, source) == {}
