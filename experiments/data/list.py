"""Images that lists name, such as DomainNet's: a line for each, its path and its label.

`real_train.txt` with lines such as `real/axe/real_007_000001.jpg 7` is the split
`real_train`, or `real_train.txt`; paths are below the folder of the lists. The classes
are those of all its lists, so that one may lack some: 0, 1, 2 and so on, each called
after the folder of its images if they have one of their own. Only images of lists that
are asked for need to be there.
"""

import re
from collections import Counter
from pathlib import Path

from experiments.data import DataError
from experiments.data.examples import Record
from experiments.data.folders import DataSet, Listing, record

LAYOUT = "*.txt with lines 'path label'"


def listing(root: Path) -> Listing:
    """The images of every list, and the classes that they share."""
    lists = {file.stem: file for file in sorted(root.glob("*.txt"))}
    if not lists:
        raise DataError(f"{root} holds no lists; expected the layout {LAYOUT}.")
    splits = {name: _records(root, file) for name, file in lists.items()}
    return Listing(_class_names(splits), splits, lists)


def _records(root: Path, file: Path) -> list[Record]:
    """The images of one list; whether they are there is for others to say."""
    if not re.fullmatch(r"[\w-]+", file.stem):
        raise DataError(
            f"{file} names a split; use letters, digits, - and _ only. Rename it."
        )
    records = []
    # Some editors mark a file as UTF-8; and paths need not be text.
    text = file.read_text("utf-8-sig", errors="surrogateescape")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        if not (path and label.isdecimal()) or path.startswith("/"):
            raise DataError(
                f"{file}, line {number}: expected a path below {root}, a space and a "
                f"label from 0 on, got {line!r:.80}. Other files than lists must not "
                "end in .txt."
            )
        place = f"{file}, line {number}"
        image = root / path.rstrip()
        records.append(record(root, image, label=int(label), line=place))
    if not records:
        raise DataError(f"{file} is an empty list. Fill or remove it.")
    return records


def _class_names(splits: dict[str, list[Record]]) -> tuple[str, ...]:
    records = [record for split in splits.values() for record in split]
    folders: dict[int, set[str]] = {}
    for each in records:
        folders.setdefault(each["label"], set()).add(each["image"].parent.name)
    last = max(records, key=lambda record: record["label"])
    classes = range(last["label"] + 1)
    gap = next((label for label in classes if label not in folders), None)
    if gap is not None:
        raise DataError(
            f"{last['line']}: its label is {last['label']}, but no list has an image "
            f"of {gap}. Number the classes 0, 1, 2 and so on."
        )
    shared = Counter(name for names in folders.values() for name in names)

    def named(label: int) -> str:
        name = min(folders[label])
        own = len(folders[label]) == shared[name] == 1 and name.isprintable()
        return name if own else str(label)

    return tuple(map(named, classes))


DATA_SET = DataSet(listing, LAYOUT)
