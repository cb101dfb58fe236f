"""The page on sequences of tasks, computed again from the records."""

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
NAMES = METHODS | {"FTP, radius rate 0.1": "ftp-fast"}


def test_the_table_of_methods():
    check_methods(PAGE, STUDY, NAMES, ("id", "learned", "forgetting"), "id")


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


def test_the_prose_says_what_the_records_say():
    assert problems(PAGE, fragments()) == []
