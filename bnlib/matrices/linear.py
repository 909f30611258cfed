"""The deep linear network of the paper's Sec 4, x -> A_M ... A_1 x: a batch sent through it, and gradient descent on it.

"Re-standardised" is batch normalisation without gain and shift: each row of A_k H is centred and scaled to variance 1 over the batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Inexact
from scipy.sparse.linalg import LinearOperator, eigsh

from bnlib.config import ConfigError
from bnlib.matrices.products import check_sizes, running_log_singular_values, stable_rank

Status = Literal["converges", "crawls", "diverges"]
CONVERGED = 1e-2  # loss after the last step over loss at the start, at most
DIVERGED = 1e3  # loss at any step over loss at the start, above


@dataclass(frozen=True)
class Trace:
    """What is left of a batch and of the map it went through, after each of M factors."""

    rms: Float[np.ndarray, "M"]  # root mean square of the activations
    cosine: Float[np.ndarray, "M"]  # mean |cosine| between two samples: 1 where all lie on one line
    log_condition: Float[np.ndarray, "M"]  # ln(s_1 / s_N) of the map
    stable_rank: Float[np.ndarray, "M"]  # ||map||_F^2 / s_1^2


def propagate(M: int, N: int, batch: int, seed: int, restandardise: bool) -> Trace:
    """Send a Gaussian batch through A_1, ..., A_M with entries N(0, 1/N), re-standardised after each factor or not.

    Re-standardising is linear once the batch is given: H_k = D_k A_k ... D_1 A_1 X C with D_k diagonal and C = I - 11^T/batch,
    which acts on the samples only. The map is A_k ... A_1, or D_k A_k ... D_1 A_1. Raises ConfigError on a size below 1, or
    a batch below 2.
    """
    check_sizes(M=M, N=N, batch=batch)
    if batch < 2:
        raise ConfigError("batch is 1; it must be at least 2, one sample has no variance and no angle")
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((N, batch))
    factors, rms, cosine = [], np.empty(M), np.empty(M)
    for k in range(M):
        A = rng.standard_normal((N, N)) / math.sqrt(N)
        H = A @ H
        if restandardise:
            H = H - H.mean(axis=1, keepdims=True)
            D = 1 / H.std(axis=1, keepdims=True)
            A, H = D * A, D * H
        factors.append(A)
        rms[k] = np.sqrt(np.mean(H**2))
        directions = H / np.linalg.norm(H, axis=0)
        cosine[k] = (np.abs(directions.T @ directions).sum() - batch) / (batch * (batch - 1))
    log_s = np.array(list(running_log_singular_values(factors)))
    return Trace(rms, cosine, log_s[:, 0] - log_s[:, -1], stable_rank(log_s))


@dataclass(frozen=True)
class Descent:
    """Gradient descent on all factors: the loss at the start and after each step, up to and including the one that diverged."""

    loss: Float[np.ndarray, "steps"]
    status: Status
    lambda_max: float  # largest eigenvalue of the Hessian over all factors, at the start

    @property
    def edge(self) -> float:
        """2 / lambda_max: on a quadratic of this curvature gradient descent diverges above this learning rate."""
        return 2 / self.lambda_max


def descend(M: int, N: int, lr: float, steps: int, seed: int, restandardise: bool) -> Descent:
    """Gradient descent on A_1, ..., A_M for ||A_M ... A_1 X - X||_F^2 / (2 batch): a random network is to become the identity.

    X is centred and white, X 1 = 0 and X X^T / batch = I, so that all ill-conditioning is the network's own. Nothing else of X
    enters: the loss is ||A_M ... A_1 - I||_F^2 / 2, and the standard deviations over the batch are the norms of the rows of
    A_k ... A_1. Any other rotation as target would be the same in law: it turns A_1 and X.
    Re-standardised means after each factor but the last, as in a network: the loss is not bounded, and M = 1 is the same problem.

    "diverges": the loss is not finite or above 1000 times its start at some step; "converges": it ends at no more than 1 % of its
    start; "crawls": neither. Raises ConfigError if M, N or steps is not a positive integer, N is 1, or lr is not positive.
    """
    loss = _descend(_factors(M, N, [seed]), np.array([lr], dtype=float), steps, restandardise)
    return Descent(loss[:, 0], status(float(_relative(loss)[0])), sharpness(M, N, seed, restandardise))


def status(relative: float) -> Status:
    """What became of a run, from its loss at the end relative to the start, infinite if it diverged."""
    return "diverges" if relative == math.inf else "converges" if relative <= CONVERGED else "crawls"


def loss_curves(M: int, N: int, rates: Sequence[float], steps: int, seed: int, restandardise: bool) -> Float[np.ndarray, "rates steps"]:
    """The loss of `descend` over its start, at the start and after each step, a row a learning rate; infinite once it has diverged."""
    loss = _descend(np.tile(_factors(M, N, [seed]), (1, len(rates), 1, 1)), np.array(rates, dtype=float), steps, restandardise).T
    relative = np.full((len(rates), steps + 1), np.inf)
    relative[:, : loss.shape[1]] = loss / loss[:, :1]
    relative[np.logical_or.accumulate(relative > DIVERGED, axis=1)] = np.inf
    return relative


def edge_along(M: int, N: int, lr: float, steps: Sequence[int], seed: int, restandardise: bool) -> Float[np.ndarray, "steps"]:
    """2/lambda_max where `descend` is after each of `steps` steps, ascending; NaN once it has diverged."""
    A, edges = _factors(M, N, [seed]), np.full(len(steps), np.nan)
    start = _loss_and_gradient(A, restandardise)[0]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for step in range(max(steps) + 1):
            loss, gradient = _loss_and_gradient(A, restandardise)
            if not (loss <= DIVERGED * start).all():
                break
            if step in steps:
                edges[list(steps).index(step)] = 2 / _sharpness(A, restandardise, tol=1e-4)
            A = A - lr * gradient
    return edges


def gradient_by_direction(M: int, N: int, seed: int) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """The singular values s_i, descending, of A_M ... A_2 where `descend` starts, and |v_i^T dL/dA_1| along its right singular vectors v_i.

    It is s_i |u_i^T (A_M ... A_1 - I)|: what the later factors have all but lost, gradient descent hardly sees (paper, Sec 4). In double
    precision, so for products with s_1 < 1e12 s_N. Raises ConfigError if M is below 2 or N is not a positive integer above 1.
    """
    if M < 2:
        raise ConfigError(f"M is {M}; it must be at least 2, the first factor alone has no others behind it")
    A = _factors(M, N, [seed])
    after = np.linalg.multi_dot([*A[:0:-1, 0], np.eye(N)])
    _, s, directions = np.linalg.svd(after)
    return s, np.linalg.norm(directions @ _loss_and_gradient(A, restandardise=False)[1][0, 0], axis=1)


@lru_cache(maxsize=1024)
def sharpness(M: int, N: int, seed: int, restandardise: bool) -> float:
    """The largest eigenvalue of the Hessian over all factors where `descend` starts."""
    return _sharpness(_factors(M, N, [seed]), restandardise, tol=1e-9)


def _sharpness(A: Float[np.ndarray, "M runs N N"], restandardise: bool, tol: float) -> float:
    """By Lanczos on exact Hessian-vector products."""
    h = 1e-30

    def product(v: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        step = 1j * h * v.reshape(A.shape)  # complex-step derivative: no difference is taken, so h can be this small
        return _loss_and_gradient(A + step, restandardise)[1].imag.ravel() / h

    hessian = LinearOperator((A.size, A.size), matvec=product, dtype=float)
    start = np.random.default_rng(0).standard_normal(A.size)
    return float(eigsh(hessian, k=1, which="LA", v0=start, tol=tol, return_eigenvectors=False)[0])


def _factors(M: int, N: int, seeds: Sequence[int]) -> Float[np.ndarray, "M runs N N"]:
    check_sizes(M=M, N=N)
    if N < 2:
        raise ConfigError("N is 1; it must be at least 2, a number has no condition")
    return np.stack([np.random.default_rng(seed).standard_normal((M, N, N)) / math.sqrt(N) for seed in seeds], axis=1)


def _descend(
    A: Float[np.ndarray, "M runs N N"], lr: Float[np.ndarray, "runs"], steps: int, restandardise: bool
) -> Float[np.ndarray, "steps runs"]:
    check_sizes(steps=steps)
    if not (np.isfinite(lr) & (lr > 0)).all():
        raise ConfigError(f"lr is {lr.min()}; it must be positive and finite")
    losses: list[np.ndarray] = []
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for _ in range(steps + 1):
            loss, gradient = _loss_and_gradient(A, restandardise)
            losses.append(np.where(np.isfinite(loss), loss, np.inf))
            if (losses[-1] > DIVERGED * losses[0]).all():
                break
            A = A - lr[:, None, None] * gradient
    return np.array(losses)


def _relative(loss: Float[np.ndarray, "steps runs"]) -> Float[np.ndarray, "runs"]:
    return np.where((loss > DIVERGED * loss[0]).any(axis=0), np.inf, loss[-1] / loss[0])


def _loss_and_gradient(
    A: Inexact[np.ndarray, "M runs N N"], restandardise: bool
) -> tuple[Inexact[np.ndarray, "runs"], Inexact[np.ndarray, "M runs N N"]]:
    """||A_M H_{M-1} - I||_F^2 / 2 and its gradient, H_k = A_k H_{k-1} / row norms if re-standardised; analytic, for complex steps."""
    M, identity = len(A), np.eye(A.shape[-1])
    H, norms = [identity], []
    for k in range(M):
        Z = A[k] @ H[-1]
        if restandardise and k < M - 1:
            norms.append(np.sqrt(np.einsum("...ij,...ij->...i", Z, Z))[..., None])
            Z = Z / norms[-1]
        H.append(Z)
    error = H[-1] - identity
    gradient, delta = np.empty_like(A), error
    for k in reversed(range(M)):
        if restandardise and k < M - 1:
            along = np.einsum("...ij,...ij->...i", delta, H[k + 1])[..., None]
            delta = (delta - along * H[k + 1]) / norms[k]
        gradient[k] = delta @ np.swapaxes(H[k], -1, -2)
        delta = np.swapaxes(A[k], -1, -2) @ delta
    return np.einsum("...ij,...ij->...", error, error) / 2, gradient
