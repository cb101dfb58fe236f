"""What compiled steps send between eight devices: row norms, never weights."""

import collections

import pytest

from devices import compiled_cases, network, placements

MODES = pytest.mark.parametrize("mode", placements.MODES)


def tell(name, found):
    """Prints the figures, for `pytest -rP`; returns how much is sent."""
    counts = dict(collections.Counter(collective.kind for collective in found))
    total = sum(collective.bytes for collective in found)
    largest = max((a.elements for c in found for a in c.arrays), default=0)
    print(f"{name}: {counts}, {total} bytes, largest array {largest}")
    return total


@MODES
def test_data_parallel_steps_send_what_those_of_adamw_send(eight, mode):
    sent = {}
    for method in ("adamw", "ftp"):
        found = eight(compiled_cases.in_the_step, method, "data parallel", mode)
        tell(f"{method}, data parallel, {mode}", found)
        sent[method] = sorted((c.kind, len(c.arrays), c.bytes) for c in found)
    assert sent["ftp"] == sent["adamw"]
    assert {kind for kind, *_ in sent["ftp"]} == {"all-reduce"}
    gradients = sum(sent_bytes for *_, sent_bytes in sent["ftp"])
    assert gradients == compiled_cases.bytes_of_params()


@pytest.mark.parametrize(
    ("mode", "stacked"), [("auto", False), ("explicit", False), ("auto", True)]
)
@pytest.mark.parametrize(
    "split", ["rows", "columns", "tensor", "tensor and rows or columns"]
)
def test_an_update_in_shards_sends_row_norms_and_scalars_alone(
    eight, split, mode, stacked
):
    assert eight(compiled_cases.in_the_update, "adamw", split, mode, stacked) == []
    found = eight(compiled_cases.in_the_update, "ftp", split, mode, stacked)
    sent = tell(f"ftp, {split}, stacked {stacked}, {mode}", found)
    assert {collective.kind for collective in found} == {"all-reduce"}
    allowed = compiled_cases.norms_and_scalars(split, stacked)
    assert sent <= 4 * sum(allowed.values())
    largest = max(array.elements for c in found for array in c.arrays)
    assert largest <= max(allowed.values()) // 3 + 1
    assert sent < 0.01 * compiled_cases.bytes_of_params(stacked)


@MODES
def test_an_update_of_layers_in_shards_sends_vectors_of_radii_alone(eight, mode):
    where = ("rows", mode, True, "fsdp")
    assert eight(compiled_cases.in_the_update, "adamw", *where) == []
    found = eight(compiled_cases.in_the_update, "ftp", *where)
    sent = tell(f"ftp, layers, {mode}", found)
    radii = 6 * network.LAYERS + 1
    # Up to eleven times: there and back for hyper-gradients, largest rows and radii,
    # and the shares of bound rows.
    assert 0 < sent <= 4 * 11 * radii
    for collective in found:
        assert all(array.elements <= 8 * radii for array in collective.arrays)
