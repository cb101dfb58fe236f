"""The page on sequences of tasks, computed again from the records."""

import pytest

from experiments.report.frame import paired
from study_numbers import (
    METHODS,
    check_methods,
    group,
    means,
    problems,
    stuck,
    trial,
    words,
)

PAGE, STUDY, FIRST = "continual.md", "pacs-continual", "pacs-continual-first"
CLASSES = "office-continual"
NAMES = METHODS | {"FTP, radius rate 0.1": "ftp-fast"}


@pytest.mark.parametrize("study", [STUDY, CLASSES])
def test_the_table_of_methods(study):
    keys = "id", "learned", "forgetting"
    check_methods(PAGE, study, NAMES, keys, "id", place=study == CLASSES)


def by_class():
    config = group(CLASSES).runs["record"].iloc[0]["config"]
    yield f"{config['data.train'].split('[:')[1][:2]} % to train on"
    tuned = {m: group(CLASSES, "tune").of(m) for m in ("fine-tune", "ftp")}
    at = {m: {t.rate: means(t, ("id",)) for t in ts} for m, ts in tuned.items()}
    plain, ftp = (", ".join([*at[m].values()][i:][:3]) for m, i in FIT.items())
    low, high = at["ftp"][3e-4], at["fine-tune"][3e-5]
    yield f"fine-tuning has {plain} from 1e-6 to 1e-5 and {high} at 3e-5"
    yield f"FTP {ftp} from 1e-3 to 1e-2 and {low} at 3e-4"
    lost = trial(CLASSES, "fine-tune", 3e-5, stage="tune")
    forgotten = f"{100 * lost.mean('forgetting'):.1f}"
    yield f"has learned {means(lost, ('learned',))} and forgotten {forgotten}"
    same = [trial(CLASSES, "spd", r, 0.5, stage="tune") for r in (1e-6, 3e-6)]
    assert [means(t, ("id",)) for t in same] == [*at["fine-tune"].values()][:2]
    chosen = group(CLASSES).chosen
    for method in {*chosen} - {"ftp"}:  # no interval leaves zero out
        found = paired(chosen["ftp"], chosen[method], "id")
        assert abs(found.mean) < found.half_width, method


FIT = {"fine-tune": 0, "ftp": 2}  # the places of the rates that serve


def fragments():
    config = group(STUDY).runs["record"].iloc[0]["config"]
    steps, batch = config["recipe.steps"], config["recipe.batch_size"]
    yield f"{steps} steps of batch {batch} each"
    yield f"at most {config['evaluation.limit']} images"
    yield f"{steps} steps a radius grows"
    tuned = lambda m, *s: means(trial(STUDY, m, *s, stage="tune"), ("id",))
    yield f"at 3e-4 fine-tuning has {tuned('fine-tune', 3e-4)}"
    yield f"at 1e-2 FTP has {tuned('ftp', 1e-2, 1.0)}"
    ftp = trial(STUDY, "ftp")
    low, *_, high = sorted(stuck(ftp, 1e-6))
    yield f"{low} to {high} of its 200 radii"
    first = trial(FIRST, "ftp")
    yield f"{words(first.get('id'))} on average"
    yield f"forgotten {words(first.get('forgetting'))}"
    yield from by_class()


def test_the_prose_says_what_the_records_say():
    assert problems(PAGE, fragments()) == []
