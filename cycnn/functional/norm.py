"""Batch normalization, forward and backward."""

from __future__ import annotations

import numpy as np

from ..layers.activation import check_activation
from ..ops import norm as ops
from .compute import array, compute

__all__ = ["batch_norm", "batch_norm_backward", "batch_norm_training"]


def batch_norm(
    x: object,
    mean: object,
    variance: object,
    gamma: object | None = None,
    beta: object | None = None,
    *,
    epsilon: float = 1e-3,
    activation: str | None = None,
) -> np.ndarray:
    """``activation(gamma * (x - mean) / sqrt(variance + epsilon) + beta)``, channel by channel.

    ``x`` is (N, ..., C), the others (C); without gamma and beta they are 1 and 0.
    """
    op = ops.BatchNormInference(float(epsilon), check_activation(activation))
    operands = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    return compute(op, array(x, "x"), *(array(v, n) for n, v in operands.items()))


def batch_norm_training(
    x: object,
    gamma: object | None = None,
    beta: object | None = None,
    *,
    epsilon: float = 1e-3,
    activation: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`batch_norm` by the statistics of ``x`` itself: ``(y, mean, invstd, unbiased)``.

    ``invstd`` is ``1 / sqrt(variance + epsilon)`` of the biased variance; ``unbiased`` is the variance that
    moving averages are made of.
    """
    op = ops.BatchNorm(float(epsilon), check_activation(activation))
    return compute(op, array(x, "x"), array(gamma, "gamma"), array(beta, "beta"))


def batch_norm_backward(
    x: object,
    dy: object,
    mean: object,
    invstd: object,
    gamma: object | None = None,
    beta: object | None = None,
    *,
    activation: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients ``(dx, dgamma, dbeta)`` of `batch_norm_training`, from its ``x``, not its ``y``."""
    op = ops.BatchNormBackward(check_activation(activation))
    operands = {"x": x, "dy": dy, "gamma": gamma, "beta": beta, "mean": mean, "invstd": invstd}
    return compute(op, *(array(v, n) for n, v in operands.items()))
