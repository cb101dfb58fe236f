# ruff: noqa: E402
import json

import numpy as np
import pytest

for package in ("flax", "matplotlib", "rich"):
    pytest.importorskip(package, reason="needs the extra `experiments`")

from benchmarks import cost, machine, scaling, scaling_report, sharded, slopes
from benchmarks.modes import PLAIN
from benchmarks.scaling_series import FTP
from benchmarks.slopes import Series


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("scaling") / "run"
    options = ["--smoke", "--rounds", "2", "--leaves", "4", "8"]
    assert scaling.main([*options, "--out", str(out)]) == 0
    return out


def test_a_run_leaves_points_slopes_and_a_plot(finished):
    results = json.loads((finished / "scaling.json").read_text())
    along = results["along"]
    assert [len(along[axis]) for axis in scaling.AXES] == [3, 2, 2]
    for points in along.values():
        for point in points:
            ratio = point[FTP]["traffic"] / point[PLAIN]["traffic"]
            assert 1 < ratio < 6  # leaves are tiny
            assert min(point[FTP]["seconds"] + point[PLAIN]["seconds"]) > 0
    assert all(min(p[FTP]["compile_seconds"]) > 0 for p in along["leaves"])
    assert len(results["slopes"]) == len(scaling_report.QUANTITIES)
    assert len(results["targets"]) == len(scaling_report.QUANTITIES)
    assert results["skipped"] == []
    table = (finished / "scaling.md").read_text()
    assert "| compile time, leaves |" in table
    assert (finished / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_each_of_two_devices_has_half_of_the_work(finished):
    results = json.loads((finished / "scaling.json").read_text())
    one, two = results["along"]["devices"]
    assert (one["x"], two["x"]) == (1, 2)
    for name in (PLAIN, FTP):
        for key in ("traffic", "state"):
            assert two[name][key] == pytest.approx(one[name][key] / 2, rel=0.05)
    assert one[FTP]["collective"] == two[PLAIN]["collective"] == 0
    assert 0 < two[FTP]["collective"] < 0.02 * two[FTP]["traffic"]


def test_slopes_of_powers_are_their_exponents():
    x = [1.0, 2.0, 4.0, 8.0]
    for power in (-1.0, 0.0, 1.0, 1.5):
        found = slopes.fit(Series(x, [3 * v**power for v in x]))
        np.testing.assert_allclose(found, power, atol=1e-7)
    bent = slopes.fit(Series(x, [1.0, 2.4, 3.6, 8.2]))
    assert bent.low < 1 < bent.high
    assert slopes.last(Series(x, [1.0, 2.4, 3.6, 7.2])) == pytest.approx(1.0)
    assert slopes.fit(Series([1, 2], [1, 2])) == pytest.approx((1, 1, 1))
    with pytest.raises(ValueError, match="two points at least, got 1"):
        slopes.fit(Series([1], [1]))


def made_up(power):
    return [
        {
            "x": x,
            PLAIN: {"seconds": [x, x], "traffic": x},
            FTP: {"seconds": [2 * x**power, 2 * x**power], "traffic": 2 * x**power},
        }
        for x in (1, 10, 100)
    ]


@pytest.mark.parametrize(
    ("power", "reached"), [(0.5, True), (1.04, True), (1.1, False)]
)
def test_growth_is_judged_by_its_slope(power, reached):
    found = scaling_report.slopes_of({"params": made_up(power)})
    assert [row["label"] for row in found] == ["time", "traffic"]
    assert found[0][FTP]["median"] == pytest.approx(power)
    assert found[0][PLAIN]["median"] == pytest.approx(1.0)
    judged = scaling_report.verdicts(found)
    assert [verdict["reached"] for verdict in judged] == [reached] * 2


def test_sizes_beyond_the_memory_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "free_bytes", lambda: 3_000_000)
    options = ["--smoke", "--rounds", "1", "--along", "params", "--no-plot"]
    assert scaling.main([*options, "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "scaling.json").read_text())
    assert len(results["along"]["params"]) == 2
    [left_out] = results["skipped"]
    assert left_out["skipped"] == "needs 0.0 GB, 0.0 GB are free"
    assert "0.1 M parameters left out" in (tmp_path / "scaling.md").read_text()


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
  ROOT %found = INSTRUCTION
  %done = f32[64,16]{1,0} all-gather-done(%found)
  %sum = f32[8,16]{1,0} add(%x, %x)
"""


@pytest.mark.parametrize(("instruction", "dtypes", "size"), COLLECTIVES)
def test_what_devices_send_is_read_off_the_program(instruction, dtypes, size):
    hlo = AROUND.replace("INSTRUCTION", instruction)
    (found,) = cost.collectives(hlo)
    assert f" {found.kind}" in instruction
    assert [array.dtype for array in found.arrays] == dtypes
    assert cost.collective_bytes(hlo) == found.bytes == size


def test_each_collective_of_a_program_counts():
    lines = [f"  %c.{i} = {text}" for i, (text, *_) in enumerate(COLLECTIVES)]
    hlo = AROUND.replace("  ROOT %found = INSTRUCTION", "\n".join(lines))
    assert cost.collective_bytes(hlo) == sum(size for *_, size in COLLECTIVES)


def test_a_child_that_fails_is_told():
    with pytest.raises(sharded.ChildError, match="2 devices: KeyError: 'fast'"):
        sharded.measured(2, {"mode": "fast", "params": 1e4, "leaves": 1, "rounds": 1})


def test_ctrl_c_reports_what_was_finished(tmp_path, monkeypatch):
    def interrupted(args, advance):
        yield from made_up(1.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(scaling.scaling_series, "of_params", interrupted)
    assert scaling.main(["--smoke", "--no-plot", "--out", str(tmp_path)]) == 130
    results = json.loads((tmp_path / "scaling.json").read_text())
    assert list(results["along"]) == ["params"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--params", "0"], "expected a number above 0, got 0"),
        (["--leaves", "10"], "--leaves: expected two values at least, got 1"),
        (["--devices", "2", "2"], "--devices: a value is given twice"),
        (["--along", "time"], "invalid choice: 'time'"),
        (["--mode", "fast"], "invalid choice: 'fast'"),
    ],
)
def test_bad_options_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        scaling.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
