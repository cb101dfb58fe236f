"""The page of all results, computed again from the records."""

from experiments.report.frame import paired
from study_numbers import apart, group, problems, span, tables, trial

PAGE, OFFICE = "index.md", "office-amazon"
ROWS = (  # of the first table: a study, and what stands for OOD
    (OFFICE, "ood"),
    ("pacs-continual", None),
    ("office-continual", None),
    ("pacs-resnet18-trunk-new", "ood"),
    ("pacs-resnet18-trunk-probed", "ood"),
    ("pacs-mobilenet-v1-new", "ood"),
    ("pacs-mobilenet-v1-probed", "ood"),
    ("camvid-probed", "corruption"),
    ("digits-study", "ood"),
)


def test_the_table_of_studies():
    (_, *rows), _ = tables(PAGE)
    for (_, _, *cells), (name, key) in zip(rows, ROWS, strict=True):
        chosen = group(name).chosen
        pair = chosen["ftp"], chosen["fine-tune"]
        wanted = [apart(*pair, k, "+") if k else "" for k in ("id", key)]
        assert cells == wanted, name


def test_where_the_gain_over_fine_tuning_is_clear():
    clear = set()
    for name, shifted in ROWS:
        chosen = group(name).chosen
        for key in ("id", shifted) if shifted else ("id",):
            found = paired(chosen["ftp"], chosen["fine-tune"], key)
            if found.mean > found.half_width:
                clear.add((name, key))
    alone = ("pacs-resnet18-trunk-new", "pacs-mobilenet-v1-probed", "pacs-continual")
    assert clear == {(name, "id") for name in alone}


def fragments():
    tuned = lambda m, *s: trial(OFFICE, m, 3e-3, *s, stage="tune").mean("ood")
    held = [tuned("ftp", k) for k in (0.0, 1.0)]
    held += [tuned("ftp-rate", r) for r in (0.03, 0.1)]
    yield f"OOD accuracy at 3e-3 is {span(held, 1)}, that of"
    yield f"fine-tuning {100 * tuned('fine-tune'):.1f}"
    chosen = group("pacs-continual").chosen
    ftp = chosen["ftp"]
    yield f"{apart(ftp, chosen['fine-tune'], 'id', '+')} over fine-tuning"
    yield f"{apart(ftp, chosen['wise-ft'], 'id', '+')} over WiSE-FT"
    yield "35 % faster than TPGM"
    yield "TPGM takes 1.7 to 1.9 times"


def test_the_prose_says_what_the_records_say():
    assert problems(PAGE, fragments()) == []
