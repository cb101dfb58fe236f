"""What the value of an option may be."""

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any

Check = Callable[[str, Any], None]  # raises a `SettingError` that names the option


class SettingError(ValueError):
    """A value of the configuration that cannot be used."""


def given(name: str, value: Any) -> None:
    """There is a value."""
    if value is None:
        raise SettingError(f"{name}: it has no default; give --config.{name}=...")


def path(name: str, value: Any) -> None:
    """None, or what can be a path."""
    if value is not None and "\0" in value:
        raise SettingError(f"{name}: a path cannot hold the character NUL.")


def text(name: str, value: Any) -> None:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise SettingError(f"{name}: expected a text, got {value!r}.")


def anything(name: str, value: Any) -> None:
    """Any value of its type."""


def one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises a `SettingError`, with the nearest choice, unless it is one of them."""
    choices = list(choices)
    if value in choices:
        return
    words = list(map(str, choices))
    near = difflib.get_close_matches(str(value), words, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise SettingError(
        f"{name}: expected one of {', '.join(words)}; got {value!r}.{hint}"
    )


def unknown(name: str, names: Iterable[str]) -> SettingError:
    """There is no option of this name; says which comes nearest.

    The last part of a name counts most: a group is easily forgotten.
    """
    last = lambda name: name.rpartition(".")[2]
    lasts = {other: last(other) for other in names}
    like = difflib.get_close_matches(last(name), lasts.values(), n=1)
    alike = [other for other in lasts if lasts[other] in like]
    near = difflib.get_close_matches(name, alike, n=1, cutoff=0)
    hint = f" Did you mean {near[0]}?" if near else ""
    return SettingError(f"{name}: there is no such option.{hint}")


def among(*choices: Any) -> Check:
    """One of the choices."""
    return lambda name, value: one_of(name, value, choices)


def whole(lowest: int, highest: float = math.inf, because: str = "") -> Check:
    """A whole number in the range; `because` says why no higher one is allowed."""

    def check(name: str, value: Any) -> None:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not (is_whole and lowest <= value <= highest):
            upwards = "on" if highest == math.inf else f"to {highest:,}{because}"
            raise SettingError(
                f"{name}: expected a whole number from {lowest} {upwards}, got"
                f" {value!r}."
            )

    return check


def within(lowest: float, highest: float, *, but: float | None = None) -> Check:
    """A finite number in the range, other than `but`."""

    def check(name: str, value: Any) -> None:
        is_number = isinstance(value, int | float) and math.isfinite(value)
        if not is_number or not lowest <= value <= highest or value == but:
            bounds = f"a number in [{lowest:g}, {highest:g}]"
            if highest == math.inf:
                bounds = f"a finite number from {lowest:g} on"
            other = "" if but is None else f", not {but:g}"
            raise SettingError(f"{name}: expected {bounds}{other}, got {value!r}.")

    return check


def at_least(lowest: float) -> Check:
    """A finite number that is not lower."""
    return within(lowest, math.inf)


def each(check: Check) -> Check:
    """A tuple of such values."""

    def check_each(name: str, values: Any) -> None:
        if not isinstance(values, tuple | list):
            raise SettingError(f"{name}: expected a tuple, got {values!r}.")
        for value in values:
            check(name, value)

    return check_each


def _two(name: str, value: Any, kind: Any, such_as: tuple[float, float]) -> None:
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(numbers) != 2 or not all(isinstance(n, kind) for n in numbers):
        raise SettingError(
            f"{name}: expected two numbers, such as {such_as}; got {value!r}."
        )


def pixels(name: str, value: Any) -> None:
    """Height and width."""
    _two(name, value, int, (64, 64))
    each(whole(1))(name, value)


def shares(name: str, value: Any) -> None:
    """The least and the largest share of an area."""
    _two(name, value, int | float, (0.7, 1.0))
    low, high = value
    if not 0.0 < low <= high <= 1.0:
        raise SettingError(
            f"{name}: expected shares of the area, the smaller one first, above 0"
            f" and up to 1; got {tuple(value)}."
        )
