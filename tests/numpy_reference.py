"""Fast Trainable Projection in plain NumPy, in the words of the paper.

One tensor at a time, as a matrix of rows, in float64. Nothing here is shared with the
library or with optax.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass
class AdamUtil:
    """Adam for one radius, as the published code names and writes it."""

    mu: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.999
    m: float = 0.0
    v: float = 0.0

    def __call__(self, gamma: float, gradient: float, t: int) -> float:
        self.m = self.beta1 * self.m + (1 - self.beta1) * gradient
        self.v = self.beta2 * self.v + (1 - self.beta2) * gradient**2
        m_hat = self.m / (1 - self.beta1**t)
        v_hat = self.v / (1 - self.beta2**t)
        return gamma - self.mu * m_hat / (math.sqrt(v_hat) + 1e-8)


@dataclasses.dataclass
class FastTrainableProjection:
    """The method for one tensor of shape (rows, weights in a row)."""

    w_0: np.ndarray
    kappa: float = 1.0
    gamma: float = 1e-8
    t: int = 0
    adam_util: Callable[[float, float, int], float] = dataclasses.field(
        default_factory=AdamUtil
    )
    c_prev: np.ndarray | None = None

    def step(self, w: np.ndarray, u: np.ndarray, g: np.ndarray) -> np.ndarray:
        """From weights, the optimizer's step and the raw gradient to new weights."""
        self.t += 1
        w_tilde = w + u  # unconstrained gradient descent
        c = w_tilde - self.w_0
        n = mars_row_norms(c)
        if self.t > 1:  # the published code leaves the radius alone at first
            assert self.c_prev is not None
            n_prev = mars_row_norms(self.c_prev)
            h = 0.0
            for row in range(len(c)):
                h += float(np.dot(g[row], self.c_prev[row])) / n_prev[row]
            if h > 0:  # gradient annealing
                h = self.kappa * h
            self.gamma = self.adam_util(self.gamma, h, self.t)
            self.gamma = min(max(self.gamma, 1e-8), n.max())
        self.c_prev = c
        projected = np.empty_like(c)
        for row in range(len(c)):
            projected[row] = self.w_0[row] + min(self.gamma / n[row], 1.0) * c[row]
        return projected


@dataclasses.dataclass
class WithFTP:
    """The method after a base optimizer."""

    base: Callable[[np.ndarray, np.ndarray], np.ndarray]  # of weights and gradient
    method: FastTrainableProjection

    def step(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        return self.method.step(w, self.base(w, g), g)


def mars_row_norms(c: np.ndarray) -> np.ndarray:
    return np.array([np.abs(row).sum() + 1e-8 for row in c])


@dataclasses.dataclass
class SGD:
    """With momentum, Nesterov's too, and weight decay in the gradient, as in torch."""

    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    buffer: np.ndarray | float = 0.0

    def __call__(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        d = g + self.weight_decay * w
        self.buffer = self.momentum * self.buffer + d
        if self.nesterov:
            d = d + self.momentum * self.buffer
        elif self.momentum:
            d = self.buffer
        return -self.learning_rate * d


@dataclasses.dataclass
class AdamW:
    """Adam with decoupled weight decay."""

    learning_rate: float
    weight_decay: float = 0.0
    m: np.ndarray | float = 0.0
    v: np.ndarray | float = 0.0
    t: int = 0

    def __call__(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        m_hat = self.m / (1 - 0.9**self.t)
        v_hat = self.v / (1 - 0.999**self.t)
        direction = m_hat / (np.sqrt(v_hat) + 1e-8)
        return -self.learning_rate * (direction + self.weight_decay * w)


@dataclasses.dataclass
class Lion:
    """The sign of an interpolated momentum."""

    learning_rate: float
    m: np.ndarray | float = 0.0

    def __call__(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        direction = np.sign(0.9 * self.m + 0.1 * g)
        self.m = 0.99 * self.m + 0.01 * g
        return -self.learning_rate * direction
