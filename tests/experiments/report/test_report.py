"""What `python -m experiments.report` leaves behind, and what it refuses."""

import re
import shutil

import pytest

from experiments.report.__main__ import FILES, gather, main
from experiments.report.plots import PLOTS
from experiments.report.tables import TABLES
from run_records import record, write_run

HOSTILE = "<script>alert(1)</script>|`$x$ [a](b) \"'&"


def report(*arguments):
    return main([str(argument) for argument in arguments])


def test_every_table_and_plot_is_on_the_page_and_in_the_markdown(swept):
    page = (swept / "report" / "index.html").read_text()
    markdown = (swept / "report" / "report.md").read_text()
    heads = re.findall(r"^### (.+)$", markdown, re.MULTILINE)
    assert len(heads) == len(TABLES) + len(PLOTS)
    assert all(page.count(f"<h3>{head}</h3>") == heads.count(head) for head in heads)
    pictures = {path.name for path in (swept / "report" / "plots").iterdir()}
    assert {f"plots/{name}" for name in pictures} == set(
        re.findall(r"\]\((.+\.png)\)", markdown)
    )
    assert page.count("<img ") == len(PLOTS) == len(pictures)
    assert page.count('<img alt="') == page.count("<img ")


def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_head(swept):
    blocks = (swept / "report" / "report.md").read_text().split("\n\n")
    found = [b.strip().splitlines() for b in blocks if b.lstrip().startswith("| ")]
    assert len(found) == len(TABLES)
    for rows in found:
        assert len({row.count("|") for row in rows}) == 1


def test_the_page_asks_for_nothing_from_elsewhere(swept):
    page = (swept / "report" / "index.html").read_text()
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert all(a.startswith(("#", "data:")) for a in addresses)
    assert not re.search(r"@import|url\(", page)


def test_two_reports_on_one_study_are_equal_to_the_byte(swept, tmp_path):
    assert report(swept / "study.jsonl", "--out", tmp_path / "again") == 0
    files = [p for p in (swept / "report").rglob("*") if p.is_file()]
    assert len(files) == len(FILES) + len(PLOTS)
    for file in files:
        again = tmp_path / "again" / file.relative_to(swept / "report")
        assert again.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("field", ["label", "name", "model", "start", "domain"])
def test_names_from_a_record_cannot_become_markup(tmp_path, field):
    runs = [record("ftp", 1e-3, 1.0, 0, corruptions=True)]
    runs += [record("fine-tune", 1e-3, None, 0, corruptions=True)]
    for found in runs:
        if field == "domain":
            domains = found["evaluation"]
            for name in [*domains]:
                domains[name.replace("art", HOSTILE).replace("fog", HOSTILE)] = (
                    domains.pop(name)
                )
            found["layers"] = [f"{x}{HOSTILE}" for x in found["layers"]]
            found["leaves"] = {f"{k}{HOSTILE}": v for k, v in found["leaves"].items()}
        else:
            found["config"]["model"].pop("start")
            found[field] = HOSTILE + (found["method"] if field == "label" else "")
        write_run(tmp_path, found)
    assert report(tmp_path) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<script>alert" not in page
    assert page.count("</script>") == page.count("<script") == 1
    assert "&lt;script&gt;" in page
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "<script" not in markdown
    assert "[a](b)" not in markdown


def test_a_method_that_the_registry_lacks_is_refused(tmp_path, capsys):
    found = record("ftp", 1e-3, 1.0, 0) | {"method": HOSTILE}
    assert report(write_run(tmp_path, found, "run")) == 2
    assert "`method`: expected one of fine-tune, " in capsys.readouterr().err


def test_a_report_takes_the_place_of_one_that_was_cut_short(tmp_path):
    for start in ("new head", "probed head"):
        for method, strength in (("fine-tune", None), ("ftp", 1.0)):
            write_run(tmp_path / start, record(method, 1e-3, strength, 0, start=start))
    out = tmp_path / "out"
    assert report(tmp_path, "--out", out) == 0
    page = (out / "index.html").read_text()
    assert "All comparisons at a glance" in page
    assert page.count("<h2>") == 2
    for cut in ("runs.csv", "report.md"):
        (out / cut).unlink()
    shutil.rmtree(out / "plots")
    # Once more, of half of it: no plot of the first report stays.
    assert report(tmp_path, "--out", out) == 0
    assert report(tmp_path / "new head", "--out", out) == 0
    assert (out / "plots" / "loss.png").exists()
    assert not [*out.rglob("*-pacs-*.png")]


@pytest.mark.parametrize("file", [*FILES, "plots"])
def test_a_file_of_someone_else_is_not_overwritten(tmp_path, capsys, file):
    path = write_run(tmp_path, record("ftp", 1e-3, 1.0, 0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / file).write_text("mine")
    assert report(path, "--out", tmp_path / "out") == 2
    assert f"{file} was not made by experiments.report" in capsys.readouterr().err
    assert [p.read_text() for p in (tmp_path / "out").iterdir()] == ["mine"]


def test_single_runs_are_found_at_any_depth_and_counted_once(tmp_path):
    a = write_run(tmp_path / "pacs" / "deep", record("ftp", 1e-3, 1.0, 0))
    write_run(tmp_path / "pacs", record("ftp", 1e-3, 1.0, 1))
    write_run(tmp_path, record("ftp", 1e-3, 1.0, 2) | {"status": "running"}, "half")
    (tmp_path / "begun" / "checkpoints" / "10").mkdir(parents=True)
    records, notes = gather([tmp_path, a, tmp_path / "pacs"])
    assert sorted(r["seed"] for r in records) == [0, 1]
    assert ["begun" in note for note in notes] == [True, False]
    assert "half: not finished (running)" in notes[1]


def test_a_lone_diverged_run_without_numbers_can_be_reported(tmp_path):
    found = record("fine-tune", 1e-3, None, 0)
    found |= {"status": "diverged", "id_val": None, "start_evaluation": None}
    for entry in found["evaluation"].values():
        entry |= {"accuracy": None, "ece": None}
    for key in ("trace", "history", "wise_curve"):
        del found[key]
    assert report(write_run(tmp_path, found)) == 0
    assert "1, 1 diverged" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize("severities", ["12345", "3"])
def test_segmentation_under_corruptions_is_reported(tmp_path, severities):
    for method, strength in (("fine-tune", None), ("ftp", 1.0)):
        found = record(method, 1e-3, strength, 0, corruptions=True)
        del found["start_evaluation"]
        every = found["evaluation"].items()
        kept = {k: e for k, e in every if k == "photo" or k[-1] in severities}
        for entry in kept.values():
            entry["mean_iou"] = entry["accuracy"] / 2
        found["metric"]["name"] = "mean_iou"
        write_run(tmp_path, found | {"evaluation": kept})
    assert report(tmp_path) == 0
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "mean IoU" in markdown
    assert "Corr. / ID" in markdown
    assert "Macro" not in markdown
    corrupted = [e["mean_iou"] for k, e in kept.items() if "/" in k]
    mean = 100 * sum(corrupted) / len(corrupted)
    row = re.search(r"^\| FTP \| 1e-3.*$", markdown, re.MULTILINE)
    assert f" {mean:.1f} " in row[0].replace("*", "")
    # Of one severity there is no line; the tables have it.
    assert (tmp_path / "report/plots/severity.png").exists() == (len(severities) > 1)


def test_refusals_are_told_in_a_sentence(tmp_path, capsys):
    assert report(tmp_path / "nowhere") == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert report(tmp_path / "empty") == 2
    assert "no metrics.json and no .jsonl in it or below" in capsys.readouterr().err
    path = write_run(tmp_path, record("ftp", 1e-3, 1.0, 0) | {"status": "running"})
    assert report(path) == 2
    assert "No run has finished yet" in capsys.readouterr().err
