"""The relatives of FTP in plain NumPy, in the words of their papers.

One tensor at a time, as a matrix of rows (rows, weights in a row), in float64, with a
base optimizer of `numpy_reference`. Nothing here is shared with the library or optax.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from numpy_reference import AdamUtil

Optimizer = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of weights and gradient


def frobenius_norm(d: np.ndarray) -> float:
    return math.sqrt(float((d**2).sum()))


def mars_norm(d: np.ndarray) -> float:
    """The maximum absolute row sum."""
    return max((float(np.abs(row).sum()) for row in d), default=0.0)


NORMS = {"mars": mars_norm, "frobenius": frobenius_norm}


@dataclasses.dataclass
class L2SP:
    """Adds lambda / 2 |W - W0|^2 to the loss, or decays toward W0 after the step."""

    w_0: np.ndarray
    base: Optimizer
    strength: Callable[[int], float]
    decoupled: bool = False
    t: int = 0

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        pull = self.strength(self.t) * self.gradient(w)
        self.t += 1
        if self.decoupled:
            return w + self.base(w, g) - pull
        return w + self.base(w, g + pull)

    def gradient(self, w: np.ndarray) -> np.ndarray:
        return w - self.w_0


@dataclasses.dataclass
class MARSSP(L2SP):
    """Adds lambda |W - W0| to the loss, for the MARS or the Frobenius norm."""

    norm: str = "mars"

    def gradient(self, w: np.ndarray) -> np.ndarray:
        d = w - self.w_0
        size = NORMS[self.norm](d)
        if size == 0:
            return np.zeros_like(d)
        if self.norm == "frobenius":
            return d / size
        largest = [row for row in range(len(d)) if np.abs(d[row]).sum() == size]
        gradient = np.zeros_like(d)
        for row in largest:
            gradient[row] = np.sign(d[row]) / len(largest)
        return gradient


def project(
    w: np.ndarray, w_0: np.ndarray, gamma: float, norm: str = "mars"
) -> np.ndarray:
    """Shortens to gamma each row that is longer, or the whole if it is."""
    c = w - w_0
    if norm == "frobenius":
        return w_0 + min(gamma / (frobenius_norm(c) + 1e-8), 1.0) * c
    projected = np.empty_like(w)
    for row in range(len(c)):
        n = np.abs(c[row]).sum() + 1e-8
        projected[row] = w_0[row] + min(gamma / n, 1.0) * c[row]
    return projected


@dataclasses.dataclass
class MARSPGM:
    """Projected gradient descent within a given radius."""

    w_0: np.ndarray
    base: Optimizer
    radius: Callable[[int], float]
    norm: str = "mars"
    t: int = 0

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        gamma = self.radius(self.t)
        self.t += 1
        return project(w + self.base(w, g), self.w_0, gamma, self.norm)


@dataclasses.dataclass
class SPD:
    """Decays toward W0 by the deviation ratio, if the condition holds."""

    w_0: np.ndarray
    base: Optimizer
    strength: Callable[[int], float]
    norm: str = "frobenius"
    t: int = 0
    decayed: int = 0

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        strength = self.strength(self.t)
        self.t += 1
        w_tilde = w + self.base(w, g)
        c = float((g * (w - self.w_0)).sum())
        if not c > 0:
            return w_tilde
        gamma_prev = NORMS[self.norm](w - self.w_0)
        gamma = NORMS[self.norm](w_tilde - self.w_0)
        ratio = max(0.0, gamma - gamma_prev) / gamma if gamma > 0 else 0.0
        self.decayed += ratio > 0
        return w_tilde - strength * ratio * (w_tilde - self.w_0)


@dataclasses.dataclass
class DiGraP:
    """Removes a share omega of what leads away from W0 from the gradient."""

    w_0: np.ndarray
    base: Optimizer
    omega: float = 0.0
    adam_util: AdamUtil = dataclasses.field(default_factory=AdamUtil)
    t: int = 0
    removed: np.ndarray | float = 0.0  # by a full projection, from the last gradient

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        self.t += 1
        h = float((g * self.removed).sum())
        self.omega = min(max(self.adam_util(self.omega, h, self.t), 0.0), 1.0)
        d = w - self.w_0
        along = float((g * d).sum())
        self.removed = np.zeros_like(d)
        if along < 0:  # descent would increase the distance
            direction = d / frobenius_norm(d)
            self.removed = float((g * direction).sum()) * direction
        return w + self.base(w, g - self.omega * self.removed)


@dataclasses.dataclass
class TPGM:
    """One radius, trained by Adam on the loss of the projected weights."""

    w_0: np.ndarray
    norm: str = "mars"
    gamma: float | None = None
    adam_util: AdamUtil = dataclasses.field(default_factory=AdamUtil)
    t: int = 0

    def row_norms(self, w: np.ndarray) -> np.ndarray:
        c = w - self.w_0
        if self.norm == "frobenius":
            return np.array([frobenius_norm(c)])
        return np.array([np.abs(row).sum() for row in c])

    def clipped(self, w: np.ndarray) -> float:
        norms = self.row_norms(w)
        gamma = norms.min() / 2 if self.gamma is None else self.gamma
        return min(max(gamma, 1e-8), norms.max())

    def project(self, w: np.ndarray) -> np.ndarray:
        return project(w, self.w_0, self.clipped(w), self.norm)

    def hypergradient(self, w: np.ndarray, g: np.ndarray) -> float:
        """dL/dgamma, for the gradient g of the loss at the projected weights."""
        gamma, norms, c = self.clipped(w), self.row_norms(w), w - self.w_0
        if self.norm == "frobenius":
            norms = np.repeat(norms, len(c))
            norms = norms if norms[0] + 1e-8 > gamma else np.full(len(c), np.inf)
        h = 0.0
        for row in range(len(c)):
            if gamma < norms[row] + 1e-8:
                h += float(np.dot(g[row], c[row])) / (norms[row] + 1e-8)
        return h

    def update(self, w: np.ndarray, g: np.ndarray) -> None:
        self.t += 1
        h = self.hypergradient(w, g)
        self.gamma = max(self.adam_util(self.clipped(w), h, self.t), 1e-8)
