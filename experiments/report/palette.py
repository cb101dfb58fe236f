"""Which colour and marker each method has, on a light and on a dark ground.

Light grounds show Okabe and Ito's palette, darkened where it would be pale, and four
more; markers and labels say the same again, so that nothing hangs on colour alone.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Look(NamedTuple):
    """Colours on a light and on a dark ground, and a matplotlib marker."""

    light: str
    dark: str
    marker: str


LOOKS = {
    "fine-tune": Look("#D55E00", "#FF8B45", "^"),
    "linear-probe": Look("#0072B2", "#58B2F2", "s"),
    "partial": Look("#6B7280", "#A9B2C0", "h"),
    "lp-ft": Look("#7A4A1E", "#CDA06F", "<"),
    "l2-sp": Look("#882255", "#D9699C", "v"),
    "mars-sp": Look("#858512", "#CDCD5C", "D"),
    "mars-pgm": Look("#6848B0", "#AB90F0", "p"),
    "wise-ft": Look("#C98500", "#F6BC42", ">"),
    "tpgm": Look("#CC79A7", "#EBA0CB", "X"),
    "spd": Look("#3296D8", "#86D0FB", "P"),
    "ftp": Look("#009E73", "#2BD3A3", "o"),
}
SPARE = (
    Look("#1B7F4D", "#7BE0A8", "d"),
    Look("#45B39D", "#A3E8D8", "8"),
    Look("#117A8B", "#63C7D8", "H"),
    Look("#B03A2E", "#F1948A", "*"),
    Look("#4D5A9E", "#A4B0F0", "4"),
)
INK = Look("#3D4450", "#C8CED8", "*")  # words, axes, what belongs to no method
GRID = Look("#E3E6EA", "#333A45", "")
PAPER = Look("#FFFFFF", "#171B21", "")


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """A look for each method; those without one of their own take the spare ones."""
    methods = list(methods)
    others = [method for method in methods if method not in LOOKS]
    return {
        method: LOOKS.get(method) or SPARE[others.index(method) % len(SPARE)]
        for method in methods
    }
