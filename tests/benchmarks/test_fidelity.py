"""What each mode of FTP gives up: the benchmark, small, and how its runs are judged."""

import json

import pytest

from benchmarks import fidelity, fidelity_report

OPTIONS = "--modes implicit int8 --seeds 2 --steps 20 --pretrain-steps 20"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("fidelity")
    options = [*OPTIONS.split(), "--noisy-steps", "100", "--out", str(out)]
    assert fidelity.main(options) == 0
    assert "| implicit |" in (out / "fidelity.md").read_text()
    return json.loads((out / "fidelity.json").read_text())


def test_exact_modes_match_the_published_code_and_int8_to_a_thousandth(results):
    golden = results["golden"]
    # Another framework's arithmetic never agrees to the last bit.
    for name in ("explicit", "implicit"):
        assert 1e-7 < golden[name]["params"] < 1e-5
        assert 1e-7 < golden[name]["radii"] < 1e-5
    assert 1e-5 < golden["int8"]["radii"] < 1e-3


def test_an_implicit_anchor_moves_by_rounding_and_others_do_not(results):
    drift = results["drift"]
    assert drift["explicit"] == drift["int8"] == 0
    assert 0 < drift["implicit"] < 1e-6


def test_runs_of_the_quickstart_start_and_train_alike(results):
    runs = results["quickstart"]
    assert list(runs) == ["explicit", "int8", "implicit"]
    assert runs["explicit"][0]["params"] == 0
    for name in ("int8", "implicit"):
        for run in runs[name]:
            assert 0 < run["radii"] < 1e-2
            assert run["id"] > 0.2


def test_a_difference_beyond_the_noise_is_a_miss():
    explicit = [{"seed": s, "id": 0.9 + 0.01 * s, "ood": 0.5} for s in range(4)]
    same = [run | {"ood": 0.5 + 1e-4 * (-1) ** run["seed"]} for run in explicit]
    worse = [run | {"ood": 0.4 + 1e-4 * run["seed"]} for run in explicit]
    runs = {"explicit": explicit, "int8": same, "implicit": worse}
    for name in runs:
        runs[name] = [run | {"params": 0.0, "radii": 0.0} for run in runs[name]]
    results = {"golden": {}, "drift": {}, "noisy_steps": 1, "quickstart": runs}
    judged = {v["target"]: v["reached"] for v in fidelity_report.verdicts(results)}
    missed = [target for target, reached in judged.items() if not reached]
    assert len(judged) == 4
    assert missed == ["FTP (implicit) is as good as explicit, OOD, points"]
