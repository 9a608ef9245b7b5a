"""First match wins, None freezes, and nothing is frozen or trained by accident."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from smolrgpt.train.optim import apply_rates, build_optimizer


def _model():
    return nn.ModuleDict({"tower": nn.Linear(3, 3), "connector": nn.Linear(3, 3), "norm": nn.LayerNorm(3)})


def test_first_match_wins_and_none_freezes():
    model = _model()
    released = apply_rates(model, (("tower", None), ("connector", 1e-3), (".", 1e-4)))
    assert released == {"connector.weight": 1e-3, "connector.bias": 1e-3, "norm.weight": 1e-4, "norm.bias": 1e-4}
    assert not any(p.requires_grad for p in model["tower"].parameters())


def test_an_unmatched_parameter_is_an_error():
    with pytest.raises(ValueError, match=r"norm\.weight"):
        apply_rates(_model(), (("tower", None), ("connector", 1e-3)))


def test_vectors_do_not_decay_and_frozen_parameters_stay_bit_identical():
    model = _model()
    optimizer = build_optimizer(model, (("tower", None), (".", 1e-2)), weight_decay=0.5)
    assert {g["weight_decay"] for g in optimizer.param_groups for p in g["params"] if p.ndim == 1} == {0.0}
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model["norm"](model["connector"](model["tower"](torch.ones(2, 3)))).square().sum().backward()
    optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert not any(k.startswith("tower") for k in changed) and any(k.startswith("connector") for k in changed)
