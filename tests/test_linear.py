"""The deep linear network against torch: batch normalisation, autograd and its Hessian, on an actual batch."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bnlib.config import ConfigError
from bnlib.matrices import linear
from bnlib.matrices.linear import descend, loss_curves, propagate, sharpness, status


def torch_norm(N: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(N, eps=1e-30, affine=False, dtype=torch.float64)


def white_batch(N: int, batch: int) -> Tensor:
    """batch x N, centred, with covariance I."""
    x = np.random.default_rng(9).standard_normal((batch, N))
    Q = np.linalg.qr(np.column_stack([np.ones(batch), x]))[0][:, 1:]
    return torch.from_numpy(math.sqrt(batch) * Q)


def torch_loss(A: Tensor, X: Tensor, restandardise: bool) -> Tensor:
    """||f(X) - X||_F^2 / (2 batch) for the network f with batch normalisation after each factor but the last."""
    H = X
    for k, factor in enumerate(A):
        H = H @ factor.T
        if restandardise and k < len(A) - 1:
            H = torch_norm(A.shape[-1])(H)
    return ((H - X) ** 2).sum() / (2 * len(X))


# A batch sent through the product


@pytest.mark.parametrize("restandardise", [False, True])
def test_propagate_against_torch(restandardise):
    M, N, batch = 4, 6, 40
    trace = propagate(M, N, batch, 3, restandardise)
    rng = np.random.default_rng(3)
    X = torch.from_numpy(rng.standard_normal((N, batch)).T.copy())
    H = X
    for k in range(M):
        H = H @ torch.from_numpy(rng.standard_normal((N, N)) / math.sqrt(N)).T
        H = torch_norm(N)(H) if restandardise else H
        centred = X - X.mean(dim=0) if restandardise else X
        linear_map = torch.linalg.lstsq(centred, H).solution.T
        torch.testing.assert_close(centred @ linear_map.T, H)  # re-standardising is linear, given the batch
        s = torch.linalg.svdvals(linear_map)
        pairs = torch.combinations(torch.arange(batch))
        cosine = torch.cosine_similarity(H[pairs[:, 0]], H[pairs[:, 1]]).abs().mean()
        assert trace.log_condition[k] == pytest.approx(math.log(s[0] / s[-1]), rel=1e-8)
        assert trace.stable_rank[k] == pytest.approx(float((s**2).sum() / s[0] ** 2), rel=1e-8)
        assert trace.rms[k] == pytest.approx(float(H.square().mean().sqrt()), rel=1e-10)
        assert trace.cosine[k] == pytest.approx(float(cosine), rel=1e-10)


def test_re_standardising_limits_scale_and_direction_but_not_the_conditioning():
    plain, restandardised = ([propagate(64, 50, 100, seed, on) for seed in range(5)] for on in (False, True))
    last = {name: [[getattr(t, name)[-1] for t in arm] for arm in (plain, restandardised)] for name in vars(plain[0])}
    assert np.allclose(last["rms"][1], 1)
    assert np.ptp(np.log(last["rms"][0])) > 0.3
    assert np.median(last["cosine"][1]) < 0.7 * np.median(last["cosine"][0])
    assert np.median(last["stable_rank"][1]) > 1.5 * np.median(last["stable_rank"][0])
    assert np.median(last["log_condition"][1]) > 0.9 * np.median(last["log_condition"][0])


# Gradient descent


@pytest.mark.parametrize("restandardise", [False, True])
@pytest.mark.parametrize("batch", [9, 50])
def test_loss_and_gradient_are_those_of_torch_on_any_white_batch(restandardise, batch):
    factors = linear._factors(4, 5, [0, 1])
    loss, gradient = linear._loss_and_gradient(factors, restandardise)
    for run in range(2):
        A = torch.from_numpy(factors[:, run]).requires_grad_()
        expected = torch_loss(A, white_batch(5, batch), restandardise)
        expected.backward()
        assert loss[run] == pytest.approx(expected.item(), rel=1e-10)
        np.testing.assert_allclose(gradient[:, run], A.grad.numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("restandardise", [False, True])
@pytest.mark.parametrize(("M", "N"), [(1, 2), (3, 3), (5, 2)])
def test_sharpness_is_the_top_of_torchs_hessian(restandardise, M, N):
    A = torch.from_numpy(linear._factors(M, N, [4])[:, 0])
    hessian = torch.autograd.functional.hessian(lambda A: torch_loss(A, white_batch(N, 12), restandardise), A)
    expected = torch.linalg.eigvalsh(hessian.reshape(A.numel(), A.numel()))[-1]
    assert sharpness(M, N, 4, restandardise) == pytest.approx(float(expected), rel=1e-7)


@pytest.mark.parametrize("restandardise", [False, True])
def test_one_factor_contracts_at_the_known_rate_in_both_arms(restandardise):
    run = descend(1, 4, 0.3, 20, 0, restandardise)
    np.testing.assert_allclose(run.loss, run.loss[0] * 0.7 ** (2 * np.arange(21)), rtol=1e-9)
    assert run.edge == pytest.approx(2)
    assert run.status == "converges"


@pytest.mark.parametrize(("lr", "expected"), [(1e-3, "crawls"), (1.99, "crawls"), (1.9, "converges"), (2.01, "crawls"), (2.2, "diverges")])
def test_the_edge_is_where_one_factor_stops_converging(lr, expected):
    run = descend(1, 4, lr, 100, 0, restandardise=False)
    assert run.status == expected
    assert (run.loss[-1] < run.loss[0]) == (lr < run.edge)


def test_a_divergent_run_ends_with_the_step_that_diverged():
    run = descend(6, 4, 1.0, 100, 0, restandardise=False)
    assert run.status == "diverges"
    assert run.loss[-1] > linear.DIVERGED * run.loss[0]
    assert (run.loss[:-1] <= linear.DIVERGED * run.loss[0]).all()


def test_a_loss_that_overflows_is_a_divergence_and_not_a_gap():
    run = descend(30, 4, 1e30, 100, 0, restandardise=False)
    assert run.status == "diverges"
    assert run.loss[-1] == math.inf


def test_the_edge_begins_at_the_sharpness_and_ends_at_the_learning_rate():
    """The edge of stability: the curvature moves until descent at this rate is just stable."""
    edges = linear.edge_along(8, 10, 0.03, [0, 1000], 0, restandardise=True)
    assert edges[0] == pytest.approx(2 / sharpness(8, 10, 0, True), rel=1e-3)
    assert edges[1] == pytest.approx(0.03, rel=0.05)


def test_the_edge_of_one_factor_stays_and_that_of_a_divergent_run_is_unknown():
    np.testing.assert_allclose(linear.edge_along(1, 4, 0.1, [0, 3, 9], 0, restandardise=True), 2, rtol=1e-6)
    assert np.isnan(linear.edge_along(6, 4, 10.0, [0, 50], 0, restandardise=False)).tolist() == [False, True]


def test_status_has_fixed_thresholds():
    assert [status(r) for r in (0.0, 0.01, 0.0101, 999.0, math.inf)] == ["converges", "converges", "crawls", "crawls", "diverges"]


@pytest.mark.parametrize("restandardise", [False, True])
def test_loss_curves_are_those_of_single_runs(restandardise):
    rates = [1e-2, 0.1, 30.0]
    curves = loss_curves(5, 4, rates, 40, 2, restandardise)
    assert curves.shape == (3, 41)
    for lr, curve in zip(rates, curves, strict=True):
        run = descend(5, 4, lr, 40, 2, restandardise)
        assert status(float(curve[-1])) == run.status
        kept = np.isfinite(curve)
        assert kept.sum() == len(run.loss) - (run.status == "diverges")
        np.testing.assert_allclose(curve[kept], (run.loss / run.loss[0])[: kept.sum()], rtol=1e-9)
    assert status(float(curves[-1, -1])) == "diverges"


def test_a_loss_that_comes_back_has_still_diverged(monkeypatch):
    losses = iter([1.0, 2.0, 5e3, 0.001, 0.001])
    monkeypatch.setattr(linear, "_loss_and_gradient", lambda A, on: (np.array([next(losses), 1.0])[: A.shape[1]], np.zeros_like(A)))
    np.testing.assert_array_equal(loss_curves(2, 3, [0.1, 0.2], 4, 0, False)[0], [1, 2, np.inf, np.inf, np.inf])


def test_depth_takes_the_large_rates_from_the_plain_network_only():
    """Medians over five seeds: at M = 32 a rate of 0.1 diverges plain and not re-standardised; both crawl at a small one."""

    def ends(M: int, restandardise: bool) -> list[str]:
        curves = [loss_curves(M, 10, [0.003, 0.1], 200, seed, restandardise) for seed in range(5)]
        return [status(float(end)) for end in np.median(curves, axis=0)[:, -1]]

    assert ends(4, restandardise=False) == ends(4, restandardise=True) == ["crawls", "converges"]
    assert ends(32, restandardise=False) == ["crawls", "diverges"]
    assert ends(32, restandardise=True) == ["crawls", "crawls"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: propagate(0, 4, 8, 0, True), "M is 0"),
        (lambda: propagate(2, 4, 1, 0, True), "batch is 1"),
        (lambda: descend(0, 4, 0.1, 10, 0, True), "M is 0"),
        (lambda: descend(2, 1, 0.1, 10, 0, True), "N is 1"),
        (lambda: descend(2, 4, 0.1, 0, 0, True), "steps is 0"),
        (lambda: descend(2, 4, -0.1, 10, 0, True), "lr is -0.1"),
        (lambda: descend(2, 4, math.nan, 10, 0, True), "lr is nan"),
        (lambda: loss_curves(2, 4, [0.1, 0.0], 10, 0, True), "lr is 0.0"),
        (lambda: sharpness(2, 0, 0, True), "N is 0"),
    ],
)
def test_settings_that_make_no_run_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_the_gradient_by_direction_is_what_the_later_factors_leave_of_the_error():
    """|v_i^T G| = s_i |u_i^T (P - I)|, with the factors drawn as `descend` draws them."""
    M, N, seed = 4, 6, 2
    A = np.random.default_rng(seed).standard_normal((M, N, N)) / N**0.5
    after = A[3] @ A[2] @ A[1]
    u, s, _ = np.linalg.svd(after)
    found, gradient = linear.gradient_by_direction(M, N, seed)
    assert found == pytest.approx(s)
    assert gradient == pytest.approx(s * np.linalg.norm(u.T @ (after @ A[0] - np.eye(N)), axis=1))
    with pytest.raises(ConfigError, match="M is 1; it must be at least 2"):
        linear.gradient_by_direction(1, N, seed)
