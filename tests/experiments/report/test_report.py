# ruff: noqa: E402
"""What `python -m experiments.report` leaves behind."""

import itertools
import json
import re

import pytest

from run_records import record, write_run

for package in ("jinja2", "matplotlib", "scipy"):
    pytest.importorskip(package, reason="needs the extra `experiments`")

from experiments.report import command_line
from experiments.report.labels import spread

PLOTS = {"id_ood", "learning_rate", "severity", "drift_depth", "loss"}


def run_report(*arguments):
    return command_line.main([str(argument) for argument in arguments])


@pytest.fixture
def summary(swept):
    return json.loads((swept / "report" / "summary.json").read_text())


def test_a_report_has_a_page_tables_numbers_and_plots(swept, summary):
    names = {path.name for path in (swept / "report").iterdir()}
    plots = {name.removesuffix(".png") for name in names if name.endswith(".png")}
    assert plots >= PLOTS
    assert sum(name.startswith("radii_ftp-") for name in plots) == 3
    assert names - {f"{name}.png" for name in plots} == {
        "index.html",
        "report.md",
        "summary.json",
    }
    assert set(summary["plots"]) == {f"{name}.png" for name in plots}
    for name in plots:
        data = (swept / "report" / f"{name}.png").read_bytes()
        assert data.startswith(b"\x89PNG")


def test_markdown_and_page_show_the_numbers_of_the_summary(swept, summary):
    (group,) = summary["groups"]
    markdown = (swept / "report" / "report.md").read_text()
    page = (swept / "report" / "index.html").read_text().replace("\u00a0", " ")
    for method in group["methods"].values():
        chosen = [
            trial
            for trial in method["settings"]
            if all(trial[key] == value for key, value in method["chosen"].items())
        ]
        for key in ("id", "ood", "corruption", "ece"):
            value = chosen[0][key]
            text = f"{100 * value['mean']:.1f} ± {100 * value['half_width']:.1f}"
            assert re.search(
                rf"^\| {re.escape(method['label'])} .*{text}", markdown, re.MULTILINE
            )
            assert text in page
    for line in group["conclusion"]:
        assert f"- {line}" in markdown


def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_head(swept):
    blocks = (swept / "report" / "report.md").read_text().split("\n\n")
    found = [b.strip().splitlines() for b in blocks if b.lstrip().startswith("| ")]
    assert len(found) == 6
    for rows in found:
        assert len({row.count("|") for row in rows}) == 1


def test_the_sweep_marks_one_setting_of_each_method(swept, summary):
    markdown = (swept / "report" / "report.md").read_text()
    section = markdown.split("### The whole sweep")[1].split("###")[0]
    marked = re.findall(r"^\| \*\*(.+?)\*\* \|", section, re.MULTILINE)
    methods = summary["groups"][0]["methods"]
    assert sorted(marked) == sorted(method["label"] for method in methods.values())


def test_the_page_asks_for_nothing_from_elsewhere(swept):
    page = (swept / "report" / "index.html").read_text()
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert all(a.startswith(("#", "data:")) for a in addresses)
    assert not re.search(r"@import|url\((?!#)", page)


def test_names_from_a_record_cannot_become_markup(tmp_path):
    found = record("ftp", 1e-3, 1.0, 0)
    found |= {"label": "<script>alert(1)</script>|", "name": "a & b </script> c"}
    assert run_report(write_run(tmp_path, found), "--out", tmp_path / "out") == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script>alert" not in page
    assert page.count("</script>") == page.count("<script")
    assert "&lt;script&gt;" in (tmp_path / "out" / "report.md").read_text()


def test_several_models_and_starts_share_a_report(tmp_path):
    for method, strength in (("fine-tune", None), ("ftp", 1.0)):
        for start in ("new head", "probed head"):
            write_run(tmp_path / start, record(method, 1e-3, strength, 0, start=start))
    assert run_report(tmp_path) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    assert "All comparisons at a glance" in page
    assert page.count("<h2>") == 2
    # Once more, without half of it: what the first report drew is gone.
    assert (
        tmp_path / "report" / "pacs-resnet18-trunk-new-head-64-px-loss.png"
    ).exists()
    assert run_report(tmp_path / "new head", "--out", tmp_path / "report") == 0
    left = {path.name for path in (tmp_path / "report").glob("*loss*")}
    assert left == {"loss.png"}


def test_each_training_has_a_section_and_plots_of_its_own(tmp_path):
    for optimizer in ("adamw", "sgd"):
        for method, strength in (("fine-tune", None), ("ftp", 1.0)):
            found = record(method, 1e-3, strength, 0)
            found["config"] |= {"optimizer": optimizer}
            write_run(tmp_path / optimizer, found)
    assert run_report(tmp_path) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    title = "pacs: resnet18-trunk, probed head, 64 px, optimizer"
    for optimizer in ("adamw", "sgd"):
        assert f"<h2>{title} {optimizer}</h2>" in page
    assert "4 runs" in page
    assert len(list((tmp_path / "report").glob("*-loss.png"))) == 2


def test_runs_of_one_name_in_several_folders_keep_their_heat_maps(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"seed{seed}", record("ftp", 1e-3, 1.0, seed), "ftp")
    write_run(tmp_path, record("tpgm", 1e-3, 0.1, 0), "tpgm")
    assert run_report(tmp_path) == 0
    maps = {path.name for path in (tmp_path / "report").glob("radii_*.png")}
    assert maps == {"radii_ftp.png", "radii_ftp-2.png", "radii_tpgm.png"}
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert all(f"({name})" in markdown for name in maps)


def test_a_lone_diverged_run_without_numbers_can_be_reported(tmp_path):
    found = record("fine-tune", 1e-3, None, 0)
    found |= {"status": "diverged", "id_val": None, "start_evaluation": None}
    for entry in found["evaluation"].values():
        entry |= {"accuracy": None, "ece": None}
    for key in ("trace", "history", "wise_curve"):
        del found[key]
    assert run_report(write_run(tmp_path, found)) == 0
    assert "1, 1 diverged" in (tmp_path / "report" / "report.md").read_text()


def test_segmentation_under_corruptions_is_reported(tmp_path):
    for method, strength in (("fine-tune", None), ("ftp", 1.0)):
        found = record(method, 1e-3, strength, 0, corruptions=True)
        del found["start_evaluation"]
        kept = {k: e for k, e in found["evaluation"].items() if e["group"] != "ood"}
        for entry in kept.values():
            entry["mean_iou"] = entry["accuracy"] / 2
        write_run(tmp_path, found | {"metric": "mean_iou", "evaluation": kept})
    assert run_report(tmp_path) == 0
    (group,) = json.loads((tmp_path / "report" / "summary.json").read_text())["groups"]
    trial = group["methods"]["ftp"]["settings"][0]
    assert "ood" not in trial
    expected = [e["mean_iou"] for k, e in kept.items() if "/" in k]
    assert trial["corruption"]["mean"] == pytest.approx(sum(expected) / len(expected))
    assert "mean IoU" in (tmp_path / "report" / "report.md").read_text()


def test_refusals_are_told_in_a_sentence(tmp_path, capsys):
    assert run_report(tmp_path / "nowhere") == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    path = write_run(tmp_path, record("ftp", 1e-3, 1.0, 0) | {"status": "running"})
    assert run_report(path) == 2
    assert "No run has finished yet" in capsys.readouterr().err


def test_a_page_of_someone_else_is_not_overwritten(tmp_path, capsys):
    path = write_run(tmp_path, record("ftp", 1e-3, 1.0, 0))
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("mine")
    assert run_report(path, "--out", out) == 2
    assert "index.html was not made by experiments.report" in capsys.readouterr().err
    assert (out / "index.html").read_text() == "mine"


def test_labels_are_spread_in_order_and_stay_inside():
    found = spread([0.0, 0.01, 0.02, 0.5, 0.99, 1.0], gap=0.1)
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert min(steps) >= 0.1 - 1e-9
    assert found[0] >= 0
    assert found[-1] <= 1
