"""Words beside points and lines, placed so that none covers another."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from experiments.report.palette import INK, PAPER

WIDER = 1.1  # a page's own font may be wider than the one that is measured

Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels


def place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    **style: Any,
) -> None:
    """Writes a text beside each point where it covers no other text or point.

    Args:
      axes: with its final limits.
      points: in data coordinates.
      texts: one per point.
      style: of the texts; `colors` holds one per text.
    """
    colours = style.pop("colors", [INK.light] * len(texts))
    renderer = axes.figure.canvas.get_renderer()  # pyright: ignore
    axes.figure.draw_without_rendering()  # pyright: ignore
    pixels = axes.transData.transform(np.asarray(points, float).reshape(-1, 2))
    taken = [(x - 9, y - 9, x + 9, y + 9) for x, y in pixels]
    frame = axes.get_window_extent(renderer)
    inside = (frame.x0, frame.y0, frame.x1, frame.y1)
    taken += [text.get_window_extent(renderer).extents for text in axes.texts]
    for (px, py), text, colour in zip(pixels, texts, colours, strict=True):
        # Inside of the axes: what lies outside of them has no extent.
        label = axes.text(0.5, 0.5, text, transform=axes.transAxes, **style)
        box = label.get_window_extent(renderer)
        width, height = WIDER * box.width, box.height
        label.remove()
        best = min(
            _candidates(px, py, width, height),
            key=lambda c: (
                40 * sum(_overlap(c, other) for other in taken)
                + 5 * (width * height - _overlap(c, inside))
                + 2 * math.hypot((c[0] + c[2]) / 2 - px, (c[1] + c[3]) / 2 - py)
            ),
        )
        taken.append(best)
        offset = (np.array(best[:2]) - (px, py)) * 72 / axes.figure.dpi
        far = math.hypot(*offset) > 60
        axes.annotate(
            text,
            tuple(axes.transData.inverted().transform((px, py)).tolist()),
            xytext=tuple(offset),
            textcoords="offset points",
            color=colour,
            bbox={"fc": PAPER.light, "ec": "none", "alpha": 0.75, "pad": 0.4},
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6} if far else None,
            **style,
        )


def _candidates(x: float, y: float, width: float, height: float) -> Iterator[Box]:
    """Boxes around a point, near ones first."""
    for gap in (13, 24, 38, 58, 80, 110, 150):
        for angle in np.linspace(0, 2 * math.pi, 16, endpoint=False):
            cx = x + math.cos(angle) * (gap + width / 2)
            cy = y + math.sin(angle) * (gap + height / 2)
            yield (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


class End(NamedTuple):
    """The last point of a line, in data coordinates, and what is written beside it."""

    x: float
    y: float
    text: str
    colour: str


def end_labels(axes: Axes, ends: Sequence[End], size: float = 9) -> None:
    """Names lines at the right of the axes, spread so that no name covers another.

    Args:
      axes: with its final limits, in a figure whose layout is settled.
      ends: any number.
      size: of the letters, in points.
    """
    if not ends:
        return
    ordered = sorted(ends, key=lambda end: end.y)
    pixels = axes.transData.transform([(end.x, end.y) for end in ordered])
    wanted = axes.transAxes.inverted().transform(pixels)[:, 1]
    height = axes.get_window_extent().height * 72 / axes.figure.dpi  # points
    for end, at in zip(
        ordered, spread(wanted.tolist(), 1.2 * size / height), strict=True
    ):
        axes.annotate(
            end.text,
            (end.x, end.y),
            xytext=(1.03, at),
            textcoords="axes fraction",
            va="center",
            size=size,
            color=end.colour,
            arrowprops={
                "arrowstyle": "-",
                "color": INK.light,
                "lw": 0.4,
                "alpha": 0.4,
                "relpos": (0, 0.5),  # to the left of the words
                "shrinkA": 1,
            },
        )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Rising positions in [0, 1], moved as little as need be to lie `gap` apart.

    >>> [round(x, 2) for x in spread([0.1, 0.12, 0.5], gap=0.1)]
    [0.06, 0.16, 0.5]
    >>> [round(x, 2) for x in spread([0.98, 1.0], gap=0.1)]
    [0.9, 1.0]
    """
    clusters: list[list[float]] = []  # the wanted positions of touching labels

    def centre(cluster: list[float]) -> float:
        half = gap * (len(cluster) - 1) / 2
        return min(max(sum(cluster) / len(cluster), half), 1 - half)

    for position in wanted:
        clusters.append([position])
        while len(clusters) > 1 and (
            centre(clusters[-1]) - centre(clusters[-2])
            < gap * (len(clusters[-1]) + len(clusters[-2])) / 2 - 1e-9
        ):
            last = clusters.pop()
            clusters[-1] += last
    return [
        centre(cluster) + gap * (i - (len(cluster) - 1) / 2)
        for cluster in clusters
        for i in range(len(cluster))
    ]
