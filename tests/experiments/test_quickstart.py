# ruff: noqa: E402
import json

import numpy as np
import pytest

for package in ("flax", "matplotlib", "orbax.checkpoint", "rich", "scipy", "sklearn"):
    pytest.importorskip(package, reason="needs the extra `experiments`")

from experiments.data import digits
from experiments.quickstart import job, report, resumable
from experiments.quickstart.plots import PLOTS
from experiments.quickstart.run_directory import RunDirectory, clear
from experiments.records import RecordError
from experiments.statistics import Interval

# Two chunks each, of the same length: one compilation per method.
TINY = ["--seeds=2", "--learning-rates", "1e-3", "1e-2", "--steps=100"]
TINY += ["--pretrain-steps=100"]
ALL_DOMAINS = (digits.CLEAN, *digits.KEPT, *digits.HELD_OUT)


def run(out, *options):
    return job.main([*TINY, "--out", str(out), *options])


def numbers(out):
    """The metrics without what may differ from start to start."""
    metrics = json.loads((out / "metrics.json").read_text())
    del metrics["wall_seconds"]
    for record in metrics["runs"].values():
        del record["seconds"]
    return metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    assert run(out) == 0
    return out


def test_a_run_leaves_results_plots_and_pretrained_checkpoints(finished):
    metrics = numbers(finished)
    assert len(metrics["runs"]) == 2 * (1 + 3 * 2)
    for record in metrics["runs"].values():
        assert set(record["accuracy"]) == set(ALL_DOMAINS)
        assert all(0 <= value <= 1 for value in record["accuracy"].values())
        assert record["id"] == record["accuracy"]["clean"]
    for name in PLOTS:
        assert (finished / name).read_bytes().startswith(b"\x89PNG")
    kept = sorted(path.name for path in (finished / "checkpoints").iterdir())
    assert kept == ["pretrain-seed0", "pretrain-seed1"]


def test_every_method_reaches_the_report(finished):
    metrics = numbers(finished)
    assert set(metrics["summary"]["selected"]) == {"linear-probe", "adamw", "ftp"}
    assert metrics["summary"]["seeds"] == [0, 1]
    assert len(metrics["conclusion"]) >= 4


def test_methods_move_the_layers_they_should(finished):
    runs = numbers(finished)["runs"]
    probe, ftp = runs["linear-probe-lr0.01-seed0"], runs["ftp-lr0.01-seed0"]
    moved = {path for path, drift in probe["drift"].items() if drift > 1e-6}
    assert moved == {"head/bias", "head/kernel"}
    for path, drift in ftp["drift"].items():
        radius = ftp["trace"][f"radius/{path}"][-1]
        assert 0 < drift <= radius * 1.001 + 1e-6


def test_an_interrupted_run_ends_with_the_same_numbers(finished, tmp_path, monkeypatch):
    out, calls = tmp_path / "run", 0
    train_chunk = resumable.train_chunk

    def interrupted_half_way(*args):
        nonlocal calls
        calls += 1
        if calls == 18:  # the second half of a run
            raise KeyboardInterrupt
        return train_chunk(*args)

    with monkeypatch.context() as patch:
        patch.setattr(resumable, "train_chunk", interrupted_half_way)
        assert run(out, "--save-every", "0", "--no-plots") == 130
    interrupted = json.loads((out / "metrics.json").read_text())
    in_progress = {path.name for path in (out / "checkpoints").iterdir()}
    assert 0 < len(interrupted["runs"]) < 14
    assert len(in_progress - set(interrupted["runs"])) == 1

    assert run(out, "--save-every", "0", "--no-plots") == 0
    assert numbers(out) == numbers(finished)


def test_a_finished_run_is_not_run_again(finished, monkeypatch):
    before = numbers(finished)

    def refuse(*args):
        raise AssertionError("trained again")

    monkeypatch.setattr(resumable, "train_chunk", refuse)
    assert run(finished, "--no-plots") == 0
    assert numbers(finished) == before


def test_other_settings_are_refused_and_change_nothing(finished, capsys):
    before = (finished / "metrics.json").read_bytes()
    assert run(finished, "--kappa", "0") == 2
    assert "kappa: 1.0 there, 0.0 now" in capsys.readouterr().err
    assert (finished / "metrics.json").read_bytes() == before


def test_a_foreign_directory_is_refused(tmp_path, capsys):
    (tmp_path / "metrics.json").write_text('{"loss": 1}')
    assert run(tmp_path, "--fresh") == 2
    assert "was not made by" in capsys.readouterr().err
    assert (tmp_path / "metrics.json").read_text() == '{"loss": 1}'


def test_starting_over_removes_only_what_the_job_made(tmp_path):
    out = RunDirectory(tmp_path, "job", {}, {})
    out.save("pretrain-seed0", 1, {"w": np.ones(2)})
    (tmp_path / "checkpoints" / "mine").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RecordError, match="was not made by another job"):
        clear(tmp_path, "another job", PLOTS)
    clear(tmp_path, "job", PLOTS)
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert left == ["checkpoints", "checkpoints/mine", "notes.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "-1"], "whole number from 1"),
        (["--seeds", "two"], "invalid whole number"),
        (["--learning-rates"], "expected at least one argument"),
        (["--learning-rates", "0"], "a number above 0"),
        (["--learning-rates", "1e-3", "0.001"], "given twice"),
        (["--kappa", "2"], r"a number in [0, 1]"),
        (["--methods", "sgd"], "invalid choice"),
    ],
)
def test_bad_options_are_explained(options, message, capsys):
    with pytest.raises(SystemExit) as exit_info:
        job.main(options)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_splits_are_disjoint_stratified_and_fixed():
    splits = digits.load_splits()
    index = np.concatenate([split.source for split in splits.values()])
    assert len(index) == len(set(index.tolist())) == 1797
    for name, split in splits.items():
        assert len(split.images) == digits.SIZES[name]
        shares = np.bincount(split.labels) / len(split.labels)
        np.testing.assert_allclose(shares, 0.1, atol=0.011)
        np.testing.assert_array_equal(split.source, digits.load_splits()[name].source)


@pytest.mark.parametrize("domain", ALL_DOMAINS)
def test_domains_are_pure_deterministic_and_in_range(domain):
    images = digits.load_splits()["val"].images[:20]
    before = images.copy()
    shown = digits.render(images, domain, seed=3)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(shown, digits.render(images, domain, seed=3))
    assert shown.shape == images.shape
    assert shown.dtype == np.float32
    assert 0 <= shown.min() < shown.max() <= 1
    assert (domain == "clean") == np.array_equal(shown, images)


def test_the_choice_takes_the_best_validation_and_the_smallest_of_equals():
    def sweep(**means):
        return {float(k[1:]): {"id_val": Interval(v, 0.0)} for k, v in means.items()}

    assert report.select(sweep(_3=0.9, _1=0.8, _2=0.95)) == 2.0
    assert report.select(sweep(_3=0.9, _1=0.9, _2=0.8)) == 1.0


@pytest.mark.parametrize(
    ("ftp_ood", "verdict"), [(0.9, "higher"), (0.5, "lower"), (0.7, "no clear")]
)
def test_the_conclusion_follows_the_numbers(ftp_ood, verdict):
    def record(ood, seed):
        jitter = 0.01 * seed
        return dict.fromkeys(report.COLUMNS, 0.7) | {"ood": ood + jitter}

    runs = {}
    for seed, sign in enumerate((1, -1, 1)):
        runs[f"pretrain-seed{seed}"] = record(0.7, seed)
        runs[f"adamw-lr0.1-seed{seed}"] = record(0.7, seed)
        runs[f"ftp-lr0.1-seed{seed}"] = record(ftp_ood, sign * seed)
    summary = report.summarise(runs, ["adamw", "ftp"], [0.1], range(3))
    assert summary is not None
    (comparison,) = [x for x in report.conclusion(summary) if "against" in x]
    assert verdict in comparison.split("OOD")[1]


def test_only_seeds_that_finished_everything_are_compared():
    runs = {f"{k}-seed0": {} for k in ("pretrain", "adamw-lr0.1")}
    assert report.summarise(runs, ["adamw"], [0.1, 0.2], [0]) is None
