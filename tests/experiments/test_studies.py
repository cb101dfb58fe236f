"""A study's file: what is kept of a run, and which lines are refused."""

import json

import pytest

from experiments import studies
from experiments.files import RecordError
from experiments.records import flat
from run_records import record


def study(folder, *found):
    file = folder / "pacs.jsonl"
    for i, each in enumerate(found):
        studies.append(file, each, "tune", f"run{i}")
    return file


def test_a_run_is_read_as_it_was_but_for_its_trace(tmp_path):
    written = [record("ftp", 1e-3, 1.0, 0), record("fine-tune", 1e-2, None, 1)]
    read = studies.read(study(tmp_path, *written))
    for old, new in zip(written, read, strict=True):
        for key in ("method", "setting", "seed", "id_val", "evaluation", "layers"):
            assert new[key] == old[key]
        assert new["config"] == flat(old["config"])
        assert new["leaves"].keys() == old["leaves"].keys()
        for path, leaf in old["leaves"].items():
            for name, value in leaf.items():
                expected = value if value is None else pytest.approx(value, rel=1e-3)
                assert new["leaves"][path][name] == expected
        assert len(new["trace"]["step"]) == 8
        assert new["trace"]["step"][-1] == old["trace"]["step"][-1]
    for path, radii in written[0]["trace"]["radius"].items():
        kept = read[0]["trace"]["radius"][path]
        assert kept[-1] == pytest.approx(radii[-1], rel=1e-3)


def test_leaves_are_columns_where_each_layer_has_one(tmp_path):
    whole = record("fine-tune", 1e-3, None, 0)
    part = whole | {"leaves": dict([*whole["leaves"].items()][:1])}
    file = study(tmp_path, whole, part)
    _, first, second = map(json.loads, file.read_text().splitlines())
    assert first["leaves"].keys() == {"drift", "norm"}  # no radii, none bound
    assert second["leaves"].keys() == part["leaves"].keys()
    read = studies.read(file)
    assert [r["leaves"].keys() for r in read] == [
        whole["leaves"].keys(),
        {*part["leaves"]},
    ]


def test_what_runs_share_is_written_once_and_a_run_may_differ_from_it(tmp_path):
    file = study(tmp_path, record("ftp", 1e-3, 1.0, 0), record("ftp", 1e-2, 1.0, 0))
    header, first, second = map(json.loads, file.read_text().splitlines())
    assert header["shared"]["config"]["recipe.optimizer"] == "adamw"
    assert "layers" not in first
    assert "recipe.optimizer" not in second["config"]
    other = record("ftp", 1e-3, 1.0, 0) | {"machine": "another", "model": "vit"}
    studies.append(file, other, "final", "run0")
    assert [r["model"] for r in studies.read(file)] == ["resnet18-trunk"] * 2 + ["vit"]


def test_a_run_that_lacks_what_the_first_has_lacks_it_when_read(tmp_path):
    first, bare = record("lp-ft", 1e-3, None, 0), record("fine-tune", 1e-3, None, 0)
    start = first["start_evaluation"]
    del bare["start_evaluation"]
    found = [r["start_evaluation"] for r in studies.read(study(tmp_path, first, bare))]
    assert found == [start, None]


@pytest.mark.parametrize("kept", [0, 10, -1, -200])
def test_whatever_a_kill_leaves_of_the_last_line_is_dropped(tmp_path, kept):
    first, second = record("ftp", 1e-3, 1.0, 0), record("ftp", 1e-2, 1.0, 0)
    file = study(tmp_path, first, second)
    whole = file.read_bytes()
    before = 0 if kept >= 0 else 1  # a torn header leaves no run, a torn line one
    file.write_bytes(whole[:kept])
    assert len(studies.read(file)) == before
    for i, each in enumerate((first, second)[before:], before):
        studies.append(file, each, "tune", f"run{i}")
    assert file.read_bytes() == whole


HEADER = {"schema": 1, "study": "pacs", "shared": {"config": {}}}


@pytest.mark.parametrize(
    ("number", "line", "words"),
    [
        (1, {"schema": 2, "shared": {}}, "first line of a study with schema 1"),
        (1, {"schema": 1}, "first line of a study"),
        (2, '{"seed":', "cannot be read as JSON"),
        (2, "[1, 2]", "expected a JSON object"),
        (2, {"loss": 1}, "`job` is missing"),
        (2, {"seed": "0"}, "`seed`: expected a whole number, got '0'"),
        (2, {"seed": True}, "`seed`: expected a whole number"),
        (2, {"evaluation": []}, "`evaluation`: expected an object"),
        (2, {"evaluation": {"a": {}}}, "`evaluation.a`: expected numbers and a group"),
        (2, {"evaluation": {"a": {"group": "id", "ece": "1"}}}, "`evaluation.a`: "),
        (2, {"job": "another"}, "`job`: expected one of 'experiments.train', got 'ano"),
        (2, {"id_val": 10**400}, "`id_val`: expected a finite number or null"),
        (2, {"trace": {"step": [1], "loss": []}}, "`trace`: expected lists of numbers"),
        (2, {"trace": {"step": [None], "loss": [1]}}, "`trace.step`: expected a list"),
        (2, {"history": {"step": 1}}, "`history`: expected lists of numbers, all as"),
        (2, {"label\x1b": ""}, "`a key`: expected a text of whole, visible letters"),
        (2, {"config": {"a": {"b": ["\ud800"]}}}, "`config.a.b.an item`: expected a"),
        (2, '{"seed": Infinity}', "Infinity is no number of JSON"),
        (2, {"leaves": {"head": [1.0]}}, "`leaves.head`: expected an object"),
        (2, {"leaves": {"drift": [1.0]}}, "`leaves.drift`: expected 10 numbers, as t"),
        (2, {"leaves": {"drift": [None, "1"]}}, "`leaves.drift`: expected a list of"),
        (2, {"config": [1]}, "`config`: expected an object"),
        (2, {"metric": {"unit": "%"}}, "`metric.name` is missing"),
        (2, {"config": {"method": "ftp"}}, "`config.method.name` is missing"),
        (2, {"setting": {"learning_rate": 1}}, "`setting.strength` is missing"),
        (2, {"method": "<b>"}, "`method`: expected one of 'fine-tune', .*got '<b>'"),
        (2, {"stage": "third"}, "`stage`: expected one of 'tune'"),
        (3, {"run": "run"}, "tune run is there twice"),
    ],
)
def test_a_foreign_or_damaged_line_is_named(tmp_path, number, line, words):
    good = {"stage": "tune", "run": "run", **record("ftp", 1e-3, 1.0, 0)}
    if isinstance(line, dict) and number > 1 and "loss" not in line:
        line = good | line
    lines = [*[HEADER, good, good][: number - 1], line, good]
    text = [x if isinstance(x, str) else json.dumps(x) for x in lines]
    file = tmp_path / "pacs.jsonl"
    file.write_text("\n".join(text) + "\n")
    with pytest.raises(RecordError, match=words) as refused:
        studies.read(file)
    assert str(refused.value).startswith(f"{file}:{number}: ")
    assert "\n" not in str(refused.value)
