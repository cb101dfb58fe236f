"""Pieces of a command line that every command is made of."""

import argparse
import math
from collections.abc import Callable


def whole(text: str) -> int:
    """An argparse type: a whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 1 on, got {text}"
        )
    return value


def real(expected: str, accept: Callable[[float], bool]) -> Callable[[str], float]:
    """An argparse type: a finite number that `accept` accepts."""

    def convert(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and accept(value)):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text}")
        return value

    convert.__name__ = "number"  # argparse names it when `float` refuses the text
    return convert


whole.__name__ = "whole number"


def refuse_repeats(
    parser: argparse.ArgumentParser, args: argparse.Namespace, *options: str
) -> None:
    """Ends with an error if one of these list options holds a value twice."""
    for option in options:
        values = getattr(args, option)
        if len(set(values)) < len(values):
            parser.error(f"--{option.replace('_', '-')}: a value is given twice")


class Formatter(
    argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter
):
    """Keeps the layout of descriptions and shows every default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if "(default: " in (action.help or ""):
            return action.help
        if isinstance(action.default, list):  # as it would be typed
            return f"{action.help} (default: {' '.join(map(str, action.default))})"
        return super()._get_help_string(action)
