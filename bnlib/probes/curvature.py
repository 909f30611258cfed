"""Sharpness: the largest eigenvalue of the Hessian of the training loss, by Lanczos on Hessian-vector products."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn import functional as F

from bnlib.nets import apply

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits and labels


class Hessian:
    """The Hessian of the mean cross-entropy of x, y (or another `loss`) with respect to all parameters, as an operator; in training mode.

    So with BN the statistics of the mini-batch are differentiated too: in evaluation mode the sharpness is another. `net` is left as
    it was.
    """

    def __init__(
        self, net: nn.Module, x: Float[Tensor, "batch 3 height width"], y: Int[Tensor, " batch"], loss: Loss = F.cross_entropy
    ) -> None:
        if not net.training:
            raise ValueError("the net is in evaluation mode, where BN ignores the mini-batch; call net.train() first")
        self.weights = list(net.parameters())
        value = loss(apply(net, x), y)
        self.gradient = torch.autograd.grad(value, self.weights, create_graph=True)
        self.size = sum(weight.numel() for weight in self.weights)

    def __matmul__(self, vector: Float[np.ndarray, " parameter"]) -> Float[np.ndarray, " parameter"]:
        """H v: the gradient of g . v, g the gradient."""
        parts = torch.split(torch.from_numpy(np.ascontiguousarray(vector)).to(self.weights[0]), [w.numel() for w in self.weights])
        directions = [part.view_as(weight) for part, weight in zip(parts, self.weights, strict=True)]
        product = torch.autograd.grad(self.gradient, self.weights, directions, retain_graph=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in product]).double().cpu().numpy()


def sharpness(
    net: nn.Module,
    x: Float[Tensor, "batch 3 height width"],
    y: Int[Tensor, " batch"],
    tolerance: float = 1e-3,
    most: int = 100,
    basis: int = 20,
    loss: Loss = F.cross_entropy,
) -> float:
    """The largest eigenvalue (not magnitude) of the Hessian, relative error about `tolerance`; NaN where the loss is not finite.

    Lanczos holds `basis` vectors, one product each, and restarts at most `most` times; raises ValueError where that does not suffice.
    """
    hessian = Hessian(net, x, y, loss)
    if not all(bool(part.isfinite().all()) for part in hessian.gradient):
        return float("nan")
    start = np.random.default_rng(0).standard_normal(hessian.size)
    operator = LinearOperator((hessian.size, hessian.size), matvec=lambda v: hessian @ v.ravel(), dtype=np.float64)
    try:
        (largest,) = eigsh(operator, k=1, which="LA", v0=start, ncv=basis, tol=tolerance, maxiter=most, return_eigenvectors=False)
    except ArpackNoConvergence:
        raise ValueError(f"Lanczos did not converge in {most} restarts; raise `tolerance` or `most`") from None
    return float(largest)
