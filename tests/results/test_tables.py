"""The tables of the pages of results, computed again from the records, cell by cell."""

import math
import re

import pytest

from study_numbers import (
    CAMVID,
    DIGITS,
    KAPPA,
    METHODS,
    MOBILE,
    NEW,
    PROBED,
    apart,
    group,
    means,
    numbers,
    over_start,
    stuck,
    tables,
    trial,
    words,
)

COLUMNS = {
    "ID val": "id_val",
    "ID test": "id",
    "OOD mean": "ood",
    "corrupted": "corruption",
    "FTP − method, ID": "id",
    "OOD": "ood",
}


CONVOLUTIONAL = (
    (NEW, "final"),
    (NEW, "tune"),
    (PROBED, "final"),
    (PROBED, "tune"),
    (MOBILE.format("new"), "final"),
    (MOBILE.format("probed"), "final"),
    (CAMVID, "final"),
    (DIGITS, "final"),
)


def row_of(where, name, heads):
    """What a row of a table of methods has to hold, "" where it holds nothing."""
    found, begin = group(*where), name == "start"
    chosen = None if begin else found.chosen[METHODS[name]]
    differences = False
    for head in heads:
        key = COLUMNS.get(head)
        differences = differences or head.startswith("FTP")
        if head == "corrupted, whole sweep":
            method = "linear-probe" if begin else METHODS[name]
            every = [t.mean("corruption") for t in group(where[0], "tune").of(method)]
            yield f"{100 * min(every):.1f} to {100 * max(every):.1f}"
        elif key is None:
            yield None
        elif differences and name == "FTP":
            yield ""
        elif differences and begin:
            yield over_start(where[0], "ftp", key)
        elif differences:
            yield apart(found.chosen["ftp"], chosen, key, "+")
        else:
            value = found.start.get(key) if begin else chosen.get(key)
            # A probed start is the probe's own, where it was not measured by itself.
            yield words(value or found.chosen["linear-probe"].get(key))


@pytest.mark.parametrize(("number", "where"), [*enumerate(CONVOLUTIONAL, 1)])
def test_the_tables_of_methods(number, where):
    heads, *rows = [*tables("convolutional.md")][number]
    for row in rows:
        name = re.split(r" \(|, held", row[0])[0]
        for head, cell, value in zip(
            heads, row, row_of(where, name, heads), strict=True
        ):
            assert value in (None, cell), (name, head)
        if name != "start":
            chosen = group(*where).chosen[METHODS[name]]
            setting = [x for x in (chosen.rate, chosen.strength) if not math.isnan(x)]
            assert numbers(row[1]) == pytest.approx(setting), name


@pytest.mark.parametrize(("number", "head"), [(0, "new"), (2, "probed")])
def test_the_grids_of_rates(number, head):
    def found(*setting):
        """Of the grid over kappa, or else of the study of all methods."""
        try:
            return trial(KAPPA.format(head), *setting, stage="tune")
        except ValueError:
            return trial(f"pacs-resnet18-trunk-{head}", *setting, stage="tune")

    _, *rows = [*tables("choosing.md")][number]
    for rate, tuned, *projected in rows:
        assert tuned == means(found("fine-tune", float(rate)))
        for kappa, cell in zip((0.0, 0.5, 1.0), projected, strict=True):
            ftp = found("ftp", float(rate), kappa)
            counted = f" ({stuck(ftp)[0]})" if head == "probed" else ""
            assert cell == means(ftp) + counted, (rate, kappa)


def test_the_table_of_remedies():
    _, *rows = [*tables("choosing.md")][-1]
    methods = ("ftp", "ftp-active", "ftp-wide", "ftp-fast", "ftp-smooth")
    for (_, *cells), method in zip(rows, methods, strict=True):
        heads = (("new", 1.0), ("new", 0.5), ("probed", 1.0), ("probed", 0.5))
        for cell, (head, kappa) in zip(cells, heads, strict=True):
            name = "resnet18-trunk" if method == "ftp" else "variants"
            found = trial(f"pacs-{name}-{head}", method, 1e-3, kappa, stage="tune")
            written, _, count = cell.partition(", ")
            assert written == means(found)
            assert int(count.split()[0]) == stuck(found)[0]
