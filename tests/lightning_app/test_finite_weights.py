"""Weights that hold nan or inf are named, large ones are not."""

import torch

from labelbridge.lightning_app.models.finite import not_finite


def test_nan_and_inf_are_found_wherever_they_are():
    for value in (float("nan"), float("inf"), -float("inf")):
        weight = torch.zeros(3, 5)
        weight[1, 4] = value
        assert not_finite([("good", torch.ones(2)), ("bad", weight)]) == ["bad"]
    both = torch.tensor([float("inf"), -float("inf")])
    assert not_finite([("both", both)]) == ["both"]


def test_large_numbers_are_not_taken_for_inf():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        large = torch.full((4,), torch.finfo(dtype).max, dtype=dtype)
        assert not_finite([("large", large), ("empty", torch.zeros(0, dtype=dtype))]) == []


def test_whole_numbers_are_always_finite():
    assert not_finite([("counts", torch.arange(3)), ("bytes", torch.ones(2, dtype=torch.uint8))]) == []
