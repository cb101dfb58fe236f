"""What `python -m experiments.report` leaves behind, and what it refuses."""

import json
import re

import pytest

from experiments import studies
from experiments.report.__main__ import FILES, gather, main
from experiments.report.plots import PLOTS
from experiments.report.tables import TABLES
from run_records import hostile, record, write_run

# All but those of sequences of tasks.
TABLES_OF_A_SWEEP, PLOTS_OF_A_SWEEP = len(TABLES) - 1, len(PLOTS) - 1


def report(*arguments):
    return main([str(argument) for argument in arguments])


def test_every_table_and_plot_is_on_the_page_and_in_the_markdown(swept):
    page = (swept / "report" / "index.html").read_text()
    markdown = (swept / "report" / "report.md").read_text()
    heads = re.findall(r"^####? (.+)$", markdown, re.MULTILINE)
    assert len(heads) == TABLES_OF_A_SWEEP + PLOTS_OF_A_SWEEP + 1  # "In detail"
    for head in heads:
        assert len(re.findall(f"<(?:h3|summary)>{re.escape(head)}<", page)) in (1, 2)
    assert page.count("<table>") == TABLES_OF_A_SWEEP
    pictures = {path.name for path in (swept / "report" / "plots").iterdir()}
    assert {f"plots/{name}" for name in pictures} == set(
        re.findall(r"\]\((.+\.png)\)", markdown)
    )
    assert page.count('<img src="data:') == PLOTS_OF_A_SWEEP == len(pictures)


def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_head(swept):
    blocks = (swept / "report" / "report.md").read_text().split("\n\n")
    tables = [b.strip().splitlines() for b in blocks if b.lstrip().startswith("| ")]
    assert len(tables) == TABLES_OF_A_SWEEP
    for rows in tables:
        assert len({row.count("|") for row in rows}) == 1


def test_the_page_asks_for_nothing_from_elsewhere(swept):
    page = (swept / "report" / "index.html").read_text()
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert all(a.startswith(("#", "data:")) for a in addresses)
    assert not re.search(r"@import|url\(", page)


def test_two_reports_on_one_study_are_equal_to_the_byte(swept, tmp_path):
    assert report(swept / "study.jsonl", "--out", tmp_path / "again") == 0
    files = [p for p in (swept / "report").rglob("*") if p.is_file()]
    assert len(files) == len(FILES) + PLOTS_OF_A_SWEEP
    for file in files:
        again = tmp_path / "again" / file.relative_to(swept / "report")
        assert again.read_bytes() == file.read_bytes()


def test_a_report_takes_the_place_of_a_larger_one(tmp_path):
    for start in ("new head", "probed head"):
        for method, strength in (("fine-tune", None), ("ftp", 1.0)):
            write_run(tmp_path / start, record(method, 1e-3, strength, 0, start=start))
    out = tmp_path / "out"
    assert report(tmp_path, "--out", out) == 0
    page = (out / "index.html").read_text()
    assert "All comparisons at a glance" in page
    assert page.count("<section") == page.count('<a href="#part-') == 3
    assert report(tmp_path / "new head", "--out", out) == 0
    assert (out / "plots" / "loss.png").exists()
    assert not [*out.rglob("*-pacs-*.png")]  # of the first report


@pytest.mark.parametrize("file", [*FILES, "plots"])
def test_a_file_of_someone_else_is_not_overwritten(tmp_path, capsys, file):
    path = write_run(tmp_path, record("ftp", 1e-3, 1.0, 0))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / file).write_bytes(b"mine\xff")
    assert report(path, "--out", tmp_path / "out") == 2
    assert f"{file} was not made by experiments.report" in capsys.readouterr().err
    assert [p.read_bytes() for p in (tmp_path / "out").iterdir()] == [b"mine\xff"]


def test_single_runs_are_found_at_any_depth_and_counted_once(tmp_path):
    a = write_run(tmp_path / "pacs" / "deep", record("ftp", 1e-3, 1.0, 0))
    write_run(tmp_path / "pacs", record("ftp", 1e-3, 1.0, 1))
    write_run(tmp_path, record("ftp", 1e-3, 1.0, 2) | {"status": "running"}, "half")
    (tmp_path / "begun" / "checkpoints" / "10").mkdir(parents=True)
    records, notes, refused = gather([tmp_path, a, tmp_path / "pacs"])
    assert sorted(r["seed"] for r in records) == [0, 1]
    assert ["begun" in note for note in notes] == [True, False]
    assert "half: not finished (running)" in notes[1]
    assert refused == []


def test_a_lone_diverged_run_without_numbers_can_be_reported(tmp_path):
    lost = record("fine-tune", 1e-3, None, 0)
    lost |= {"status": "diverged", "id_val": None, "start_evaluation": None}
    for entry in lost["evaluation"].values():
        entry |= {"accuracy": None, "ece": None}
    for key in ("trace", "history", "wise_curve"):
        del lost[key]
    assert report(write_run(tmp_path, lost)) == 0
    assert "1, 1 diverged" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize("severities", ["12345", "3"])
def test_segmentation_under_corruptions_is_reported(tmp_path, severities):
    for method, strength in (("fine-tune", None), ("ftp", 1.0)):
        run = record(method, 1e-3, strength, 0, corruptions=True)
        del run["start_evaluation"]
        every = run["evaluation"].items()
        kept = {k: e for k, e in every if k == "photo" or k[-1] in severities}
        for entry in kept.values():
            entry["mean_iou"] = entry["accuracy"] / 2
        run["metric"]["name"] = "mean_iou"
        write_run(tmp_path, run | {"evaluation": kept})
    assert report(tmp_path) == 0
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "mean IoU" in markdown
    assert "Corr. / ID" in markdown
    assert "Macro" not in markdown
    corrupted = [e["mean_iou"] for k, e in kept.items() if "/" in k]
    row = re.search(r"^\| FTP \| 1e-3.*$", markdown, re.MULTILINE)
    assert f" {100 * sum(corrupted) / len(corrupted):.1f} " in row[0].replace("*", "")
    # Of one severity there is no line; the tables have it.
    assert (tmp_path / "report/plots/severity.png").exists() == (len(severities) > 1)


def test_names_from_a_record_cannot_become_markup(tmp_path):
    for method, strength in (("fine-tune", None), ("ftp", 1.0)):
        write_run(tmp_path, hostile(record(method, 1e-3, strength, 0)))
    assert report(tmp_path) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<script>alert" not in page
    assert page.count("</script>") == page.count("<script") == 1
    assert page.count("&lt;script&gt;") > 10
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "<script" not in markdown
    for unescaped in ("[a](b)", "|`", "$x$", "a\\1b"):
        assert unescaped not in markdown.replace("\\" + unescaped, "")


# ---- What it refuses ---------------------------------------------------------------


def test_the_report_of_the_others_goes_on(tmp_path, capsys):
    good = record("ftp", 1e-3, 1.0, 0)
    broken = {
        "[" * 100_000: "cannot be read as JSON: maximum recursion depth",
        '{"config":' * 20 + "{}" + "}" * 20: "expected at most 16 levels",
        json.dumps(good).replace("51.5", "NaN"): "NaN is no number of JSON",
        json.dumps(good).replace("51.5", "1e999"): "`seconds`: expected a finite",
        json.dumps(good | {"name": "a\ud800"}): "`name`: expected a text of whole",
        json.dumps(good | {"model": "a\nb"}): "`model`: expected a text of whole",
        json.dumps(good | {"leaves": {"\x07": {}}}): "`leaves.a key`: expected a text",
        json.dumps(good | {"method": "<script>"}): "`method`: expected one of 'fine-",
        json.dumps(good | {"seed": True}): "`seed`: expected a whole number, got True",
        "\xff": "cannot be read as JSON",
    }
    write_run(tmp_path, good, "good")
    for i, text in enumerate(broken):
        path = write_run(tmp_path, {}, f"broken {i}") / "metrics.json"
        path.write_text(text, "latin-1")
    (tmp_path / "torn.jsonl").write_text("{}\n")
    assert report(tmp_path, tmp_path / "nowhere", "--out", tmp_path / "out") == 2
    lines = capsys.readouterr().err.splitlines()
    words = [
        "nowhere cannot be read: No such file",
        "first line of a study with schema",
    ]
    assert len(lines) == len(broken) + len(words)
    for i, said in enumerate(broken.values()):
        (line,) = [x for x in lines if f"broken {i}/metrics.json: " in x]
        assert said in line
    assert all(any(word in line for line in lines) for word in words)
    assert "1 run · 1 method" in (tmp_path / "out" / "report.md").read_text()


def test_refusals_are_told_in_a_sentence(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert report(tmp_path / "empty") == 2
    assert "no metrics.json and no .jsonl in it or below" in capsys.readouterr().err
    path = write_run(tmp_path, record("ftp", 1e-3, 1.0, 0) | {"status": "running"})
    assert report(path) == 2
    assert "No run has finished yet" in capsys.readouterr().err
    file = tmp_path / "study.jsonl"
    studies.append(file, record("ftp", 1e-3, 1.0, 0), "tune", "a")
    assert report(file, "--out", file / "below") == 2
    assert capsys.readouterr().err.count("\n") == 1
