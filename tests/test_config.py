"""Configurations are checked on construction, named by what differs from the defaults, and those names never change."""

import dataclasses
import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnlib.config import (
    Block,
    ConfigError,
    DataConfig,
    Init,
    LinearConfig,
    ModelConfig,
    Norm,
    ProbeConfig,
    ProductConfig,
    RunConfig,
    Schedule,
    Shortcut,
    TrainConfig,
)


def norms_for(block: str) -> st.SearchStrategy:
    return st.just("none") if block in ("fixup", "skipinit") else st.sampled_from(get_args(Norm))


@st.composite
def models(draw: st.DrawFn) -> ModelConfig:
    block = draw(st.sampled_from(get_args(Block)))
    return ModelConfig(
        depth=6 * draw(st.integers(1, 40)) + 2,
        norm=draw(norms_for(block)),
        init=draw(st.sampled_from(get_args(Init))),
        shortcut=draw(st.sampled_from(get_args(Shortcut))),
        block=block,
    )


runs = st.builds(
    RunConfig,
    study=st.sampled_from(("init", "spectra")),
    seed=st.integers(0, 99),
    model=st.none() | models(),
    data=st.none() | st.builds(DataConfig, source=st.sampled_from(("cifar10", "synthetic"))),
    probe=st.none() | st.builds(ProbeConfig, batch=st.integers(2, 512), full=st.booleans(), powerlaw=st.booleans()),
    product=st.none() | st.builds(ProductConfig, M=st.integers(1, 64), N=st.integers(1, 1000)),
    train=st.none()
    | st.builds(
        TrainConfig,
        lr=st.floats(1e-6, 100),
        epochs=st.integers(1, 3000),
        steps=st.integers(0, 500),
        batch=st.integers(1, 512),
        schedule=st.sampled_from(get_args(Schedule)),
        augment=st.booleans(),
        clip=st.floats(0, 10),
        limit=st.floats(0, 1e9),
        threads=st.integers(1, 8),
    ),
    linear=st.none() | st.builds(LinearConfig, restandardise=st.booleans(), batch=st.integers(2, 512), steps=st.integers(1, 5000)),
)


def test_defaults_never_change():
    kinds = (ModelConfig, DataConfig, ProbeConfig, ProductConfig, LinearConfig, TrainConfig)
    defaults = {kind.__name__: dataclasses.asdict(kind()) for kind in kinds}
    assert defaults == {
        "ModelConfig": {"depth": 110, "norm": "batch", "init": "xavier", "shortcut": "projection", "block": "residual"},
        "DataConfig": {"source": "cifar10", "train_size": 50_000, "test_size": 10_000},
        "ProbeConfig": {"batch": 128, "full": True, "powerlaw": False},
        "ProductConfig": {"M": 1, "N": 1000},
        "LinearConfig": {"restandardise": False, "batch": 256, "steps": 1000, "relu": False},
        "TrainConfig": {
            "lr": 0.1,
            "epochs": 165,
            "steps": 0,
            "batch": 128,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "schedule": "steps",
            "augment": True,
            "precision": "fp32",
            "threads": 1,
            "engine": "eager",
            "clip": 0.0,
            "limit": 1e3,
        },
    }


def test_run_ids_never_change():
    assert RunConfig("init", 0, ModelConfig(depth=20), DataConfig(), ProbeConfig()).run_id == "9d07c1f80468"
    assert RunConfig("spectra", 3, product=ProductConfig(M=5)).run_id == "b6b685760b88"
    assert RunConfig("fig1", 1, ModelConfig(), DataConfig(), train=TrainConfig(lr=0.003, epochs=1320)).run_id == "805f5f386bef"


@given(runs)
def test_a_run_survives_its_dictionary_and_json(run: RunConfig):
    assert RunConfig.from_dict(json.loads(json.dumps(run.to_dict()))) == run


@given(runs, runs)
def test_two_runs_share_an_id_only_when_equal(one: RunConfig, other: RunConfig):
    assert (one.run_id == other.run_id) == (one == other)


@given(st.integers(-20, 300))
def test_depth_is_six_n_plus_two(depth: int):
    if depth >= 8 and depth % 6 == 2:
        assert ModelConfig(depth=depth).depth == depth
    else:
        with pytest.raises(ConfigError, match="6n \\+ 2"):
            ModelConfig(depth=depth)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelConfig(depth=21), "depth is 21; it must be 6n \\+ 2 with n >= 1, such as 20 or 26"),
        (lambda: ModelConfig(norm="Batch"), "norm is 'Batch'; it must be one of batch, none"),
        (lambda: ModelConfig(depth=20.0), "depth is 20.0; it must be of type int"),
        (lambda: ModelConfig(depth=True), "must be of type int"),
        (lambda: ModelConfig(norm="batch", block="fixup"), "needs norm 'none'"),
        (lambda: ProductConfig(M=0), "M is 0; it must be at least 1"),
        (lambda: ProductConfig(N=-3), "N is -3; it must be at least 1"),
        (lambda: ProductConfig(M=2.5), "M is 2.5; it must be of type int"),
        (lambda: LinearConfig(restandardise=1), "restandardise is 1; it must be of type bool"),
        (lambda: LinearConfig(batch=1), "batch is 1; it must be at least 2"),
        (lambda: LinearConfig(steps=0), "steps is 0; it must be at least 1"),
        (lambda: ProbeConfig(full="False"), "full is 'False'; it must be of type bool"),
        (lambda: ProbeConfig(batch=1), "at least 2"),
        (lambda: DataConfig(train_size=0), "train_size is 0; it must be at least 1"),
        (lambda: TrainConfig(lr=0.0), "lr is 0.0; it must be above zero"),
        (lambda: TrainConfig(lr=-0.1), "lr is -0.1; it must be above zero"),
        (lambda: TrainConfig(lr=float("nan")), "lr is nan; it must be a finite float"),
        (lambda: TrainConfig(lr=float("inf")), "lr is inf; it must be a finite float"),
        (lambda: TrainConfig(epochs=0), "epochs is 0; it must be at least 1"),
        (lambda: TrainConfig(momentum=1.0), "at least 0 and below 1"),
        (lambda: TrainConfig(weight_decay=-1e-4), "at least 0"),
        (lambda: TrainConfig(clip=-1.0), "clip is -1.0; it must be at least 0"),
        (lambda: TrainConfig(limit=-1.0), "limit is -1.0; it must be at least 0"),
        (lambda: TrainConfig(precision="fp16"), "must be one of fp32, tf32, bf16"),
        (lambda: RunConfig.from_dict({"study": "init", "seed": 0, "modle": {}}), "no section 'modle'"),
        (lambda: RunConfig.from_dict({"study": "init", "seed": 0, "model": {"dpeth": 8}}), "no field 'dpeth'"),
        (lambda: RunConfig.from_dict({"study": "init"}), "needs a study"),
        (lambda: RunConfig.from_dict({"study": "init", "seed": 0, "model": None}), "must be an object"),
    ],
)
def test_bad_settings_get_one_clear_line(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
