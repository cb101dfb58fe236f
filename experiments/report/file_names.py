"""Names of files that fit into a file system, each of them once."""

from collections.abc import Iterable

_LONGEST = 120  # letters of a title, which others come behind


def slug(title: str) -> str:
    """A title as part of a file name.

    >>> slug("pacs: resnet18-trunk, new head, 64 px")
    'pacs-resnet18-trunk-new-head-64-px'
    """
    text = "".join(c if c.isalnum() else " " for c in title.lower())
    return "-".join(text.split())[:_LONGEST].rstrip("-")


def distinct(names: Iterable[str]) -> list[str]:
    """The names, those that came up before with a number behind them.

    Capitals make no other name, as some file systems see it.

    >>> distinct(["ftp", "tpgm", "ftp", "FTP", "ftp-2"])
    ['ftp', 'tpgm', 'ftp-3', 'FTP-4', 'ftp-2']
    """
    names = list(names)
    given, taken, found = {name.lower() for name in names}, set(), []
    for name in names:
        free, number = name, 1
        while free.lower() in taken or (number > 1 and free.lower() in given):
            number += 1
            free = f"{name}-{number}"
        taken.add(free.lower())
        found.append(free)
    return found
