"""What a table is made of; Markdown and HTML write it out alike."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple


class Cell(NamedTuple):
    """One cell.

    Attributes:
      text: as it is shown.
      value: what sorting goes by; `None` sorts last.
      best: the best of its column, or the chosen one of its method.
      method: key of the method it names, if any.
    """

    text: str
    value: float | None = None
    best: bool = False
    method: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: `rows` of as many cells as there are `heads`.

    Attributes:
      key: short name, unique within a group.
      hints: what each column holds, "" where its head says enough.
      words: how many columns at the left are words; the others are numbers.
    """

    key: str
    title: str
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    hints: Sequence[str] = ()
    words: int = 1
