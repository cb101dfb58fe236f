"""What plots draw and say where there is little to draw."""

import itertools
import re

import pytest

from run_records import record, write_run

pytest.importorskip("matplotlib", reason="needs the extra `experiments`")
pytest.importorskip("scipy", reason="needs the extra `experiments`")

from matplotlib.text import Text

from experiments.report import curves, drawing, plots
from experiments.report.gather import gather
from experiments.report.labels import place_labels
from experiments.report.palette import LOOKS
from experiments.report.plane import save_plane
from experiments.report.summarise import summarise


def group_of(folder, *records):
    for i, found in enumerate(records):
        write_run(folder, found, f"run{i}")
    (group,) = summarise(gather([folder])[0])
    return group


def test_a_method_that_stood_still_is_named_in_the_plot_of_drift(tmp_path):
    still = record("linear-probe", None, 1.0, 0)
    for leaf in still["leaves"].values():
        leaf["drift"] = 0.0
    group = group_of(tmp_path, record("ftp", 1e-3, 1.0, 0), still)
    svg = curves.save_drift(group, tmp_path / "drift.png")
    assert "Not drawn, at most 1e-6 in these: Linear probe." in svg


@pytest.mark.parametrize("points", [1, 20])
def test_a_loss_of_few_steps_is_drawn_with_marks(tmp_path, points):
    found = record("ftp", 1e-3, 1.0, 0)
    found["trace"]["step"] = found["trace"]["step"][:points]
    found["trace"]["loss"] = found["trace"]["loss"][:points]
    del found["history"]
    svg = curves.save_loss(group_of(tmp_path, found), tmp_path / "loss.png")
    marks = re.findall(f"<use [^>]*fill: {LOOKS['ftp'].light}", svg, re.IGNORECASE)
    assert len(marks) == (1 if points == 1 else 0)


def test_one_severity_is_left_to_the_tables(tmp_path):
    found = record("ftp", 1e-3, 1.0, 0, corruptions=True)
    for key in [k for k in found["evaluation"] if k[-1] in "1245"]:
        del found["evaluation"][key]
    keys = {plot.key for plot in plots.draw(group_of(tmp_path, found), tmp_path)}
    assert "id_ood" in keys
    assert "severity" not in keys


@pytest.mark.parametrize("seeds", [1, 2])
def test_intervals_are_spoken_of_where_there_are_any(tmp_path, seeds):
    group = group_of(tmp_path, *(record("ftp", 1e-3, 1.0, s) for s in range(seeds)))
    svg, _ = save_plane(group, tmp_path / "plane.png")
    assert ("95 % intervals" in svg) == (seeds > 1)


def test_labels_of_close_points_keep_clear_of_each_other_and_inside():
    points = [(90 + 0.1 * i, 30 + 0.05 * i) for i in range(6)]  # far from (0, 0)
    with drawing.canvas(1, 1, size=(8.2, 5.4)) as (figure, panels):
        axes = panels[0, 0]
        axes.set(xlim=(80, 92), ylim=(20, 32))
        place_labels(axes, points, ["Partial (norms, biases)"] * 6, size=9.5)
        figure.draw_without_rendering()
        boxes = [Text.get_window_extent(text) for text in axes.texts]  # no arrows
        frame = axes.get_window_extent()
    assert len(boxes) == 6
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
    assert all(
        not first.overlaps(second) for first, second in itertools.combinations(boxes, 2)
    )
