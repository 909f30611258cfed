"""Products of M Gaussian matrices with a ReLU after each: the map that a random fully connected network is, close to one input.

A ReLU passes the units that the input opens and stops the others, so the map is a product of matrices too, with half of the rows of each
factor set to zero (paper, Sec 4 and, as remembered, its appendix).
"""

import math

import numpy as np
from jaxtyping import Float

from bnlib.matrices.products import check_sizes


def log_singular_values(M: int, N: int, seed: int) -> tuple[Float[np.ndarray, "half"], Float[np.ndarray, "quarter"]]:
    """ln of the N/2 largest singular values of A_M ... A_1 with entries N(0, 1/N), and of the N/4 largest of sqrt(2)^M D_M A_M ... D_1 A_1.

    D_k is 1 where a ReLU after factor k is open for a Gaussian input x, 0 where it is not; sqrt(2) makes up for what they stop, as in He's
    initialisation. The ReLUs leave about N/2 directions: each list goes down to the middle of those that are left. They are found by
    multiplying out, so they are right as long as s_1 is not above 1e12 times the last of them, here and there.
    Raises ConfigError if M or N is not a positive integer.
    """
    check_sizes(M=M, N=N)
    rng = np.random.default_rng(seed)
    h = rng.standard_normal(N)
    plain = passed = np.eye(N)
    for _ in range(M):
        A = rng.standard_normal((N, N)) / math.sqrt(N)
        h = math.sqrt(2) * A @ h
        plain, passed = A @ plain, math.sqrt(2) * (h > 0)[:, None] * (A @ passed)
        h = np.maximum(h, 0)
    values = [np.linalg.svd(product, compute_uv=False)[:kept] for product, kept in ((plain, N // 2), (passed, N // 4))]
    return np.log(values[0]), np.log(values[1])


def edge(M: int) -> float:
    """The largest squared singular value with ReLUs, for N -> infinity at fixed M; without, it is `FussCatalan.edge`.

    Each factor has the S-transform 1 / (1 + 2 z) (free probability, as in Pennington et al. 2017), so x = (1 + z) / z (1 + 2 z)^M, least at
    z = (1 - M + sqrt(M^2 + 1)) / (2 M). Raises ConfigError if M is not a positive integer.
    """
    check_sizes(M=M)
    z = (1 - M + math.sqrt(M**2 + 1)) / (2 * M)
    return (1 + z) / z * (1 + 2 * z) ** M
