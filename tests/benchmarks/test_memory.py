# ruff: noqa: E402
import json

import jax
import jax.numpy as jnp
import pytest

for package in ("flax", "matplotlib", "rich"):
    pytest.importorskip(package, reason="needs the extra `experiments`")

from benchmarks import cost, memory, memory_report, refusals
from benchmarks.cost import Cost
from benchmarks.modes import EXPLICIT, MODES, PLAIN
from benchmarks.refusals import SETTINGS


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("memory") / "run"
    assert memory.main(["--smoke", "--out", str(out)]) == 0
    return out


def test_a_run_counts_every_mode(finished):
    results = json.loads((finished / "memory.json").read_text())
    counted = results["dtypes"]["float32"]
    assert list(counted) == [PLAIN, *MODES]
    rows = memory_report.beyond_plain(counted)
    assert rows[EXPLICIT]["device"] == pytest.approx(2, abs=0.01)
    assert all(row["device"] + row["host"] > 0.9 for row in rows.values())
    assert all(0 < row["peak"] < 5 for row in rows.values())
    assert len(results["targets"]) == len(MODES)
    assert all(found["reached"] for found in results["targets"])
    assert (finished / "memory.png").read_bytes().startswith(b"\x89PNG")


def test_every_setting_of_the_list_is_refused_with_a_reason(finished):
    for setting in SETTINGS:
        why = refusals.reason(setting)
        assert why is not None, setting.label
        assert why.endswith("."), setting.label
    results = json.loads((finished / "memory.json").read_text())
    assert list(results["refused"]) == [setting.label for setting in SETTINGS]
    table = (finished / "memory.md").read_text()
    assert all(f"| {setting.label} |" in table for setting in SETTINGS)


def test_a_setting_that_the_library_takes_has_no_reason():
    assert refusals.reason(refusals.Setting("", {})) is None


def test_a_mode_that_is_refused_is_left_out(tmp_path):
    options = ["--smoke", "--dtypes", "bfloat16", "--modes", "implicit"]
    assert memory.main([*options, "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "memory.json").read_text())
    assert list(results["dtypes"]["bfloat16"]) == [PLAIN]
    assert not (tmp_path / "memory.png").exists()  # there is nothing to draw


def test_the_first_sentence_is_told():
    text = "anchor: 1.5 of it\n  is lost. Expected more."
    assert refusals.first_sentence(text) == "anchor: 1.5 of it is lost."
    assert refusals.first_sentence("no stop") == "no stop."


def made_up(device, host=0):
    plain = {"device": 8, "host": 0, **Cost(4, 8, 12, 0.0, 0.0, 0)._asdict()}
    return {PLAIN: plain, EXPLICIT: plain | {"device": device, "host": host}}


def test_targets_are_judged_in_copies_beyond_adamw():
    [found] = memory_report.verdicts({"float32": made_up(16)})
    assert found["reached"]
    assert found["median"] == 2.0
    [found] = memory_report.verdicts({"float32": made_up(17, host=4)})
    assert not found["reached"]
    assert found["median"] == 2.25
    assert memory_report.beyond_plain(made_up(16, 4))[EXPLICIT]["host"] == 1.0
    assert memory_report.verdicts({"bfloat16": made_up(16)}) == []


def test_arrays_are_counted_where_they_are():
    near = jnp.ones(3)
    far = jax.device_put(near, near.sharding.with_memory_kind("pinned_host"))
    assert cost.num_bytes_by_place({"a": near, "b": far}) == (12, 12)


def test_ctrl_c_reports_what_was_counted(tmp_path, monkeypatch):
    prepared = memory.Update

    def interrupted(tx, params, grads):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(tx)
        return prepared(tx, params, grads)

    seen = []
    monkeypatch.setattr(memory, "Update", interrupted)
    assert memory.main(["--smoke", "--out", str(tmp_path)]) == 130
    counted = json.loads((tmp_path / "memory.json").read_text())["dtypes"]
    assert list(counted["float32"]) == [PLAIN, EXPLICIT]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tree", "oak"], "invalid choice: 'oak'"),
        (["--dtypes", "float16"], "invalid choice: 'float16'"),
        (["--modes", EXPLICIT, EXPLICIT], "--modes: a value is given twice"),
    ],
)
def test_bad_options_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        memory.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
