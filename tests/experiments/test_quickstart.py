"""The quickstart: what it trains, what it leaves, and how it goes on."""

import pytest

from experiments import quickstart, studies, sweep
from experiments.data import digits
from experiments.records import RecordError
from mocked_runs import QUIET


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart") / "run"
    quickstart.quickstart(2, out, True, QUIET)
    return out


def test_every_way_to_fine_tune_is_tried_at_every_setting_and_seed(finished):
    runs = {run["run"]: run for run in studies.read(finished / studies.FILE)}
    assert len(runs) == 2 * 2 * len(quickstart.SETTINGS)  # seeds, settings
    assert {run["method"] for run in runs.values()} == set(quickstart.SETTINGS)
    for seed in (0, 1):  # each from a network of its own
        run = runs[f"ftp-lr0.001-kappa1-seed{seed}"]
        assert run["config"]["io.weights"] == str(finished / f"pretrain-{seed}")
        assert set(run["evaluation"]) == set(digits.DOMAINS)


def test_the_page_the_table_and_the_plots_are_there(finished):
    report = finished / "report"
    assert "FTP" in (report / "index.html").read_text()
    assert "| Linear probe |" in (report / "report.md").read_text()
    for name in ("learning_rate", "id_ood"):
        assert (report / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_trains_only_what_is_missing(finished, monkeypatch):
    study = finished / studies.FILE
    whole = study.read_bytes()
    study.write_bytes(b"".join(whole.splitlines(keepends=True)[:-2]))
    ran, run = [], sweep.run
    monkeypatch.setattr(
        sweep, "run", lambda *args, **shared: ran.append(args) or run(*args, **shared)
    )
    quickstart.quickstart(2, finished, True, QUIET)
    assert len(ran) == 2
    assert study.read_bytes() == whole
    with pytest.raises(RecordError, match=r"recipe\.steps: 20 there, 600 now"):
        quickstart.quickstart(2, finished, False, QUIET)


@pytest.mark.parametrize("option", ["--seeds=0", "--seeds=two", "--rates=1"])
def test_bad_options_are_explained(option, capsys):
    with pytest.raises(SystemExit) as exit_info:
        quickstart.main([option])
    assert exit_info.value.code == 2
    assert option.split("=")[0] in capsys.readouterr().err
