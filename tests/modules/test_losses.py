"""Equation 1 against float64 sums written out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from labelbridge.datamodules.windows import WindowSampler, WindowShape
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.modules.losses import Objective, kl_rows, mixed_rows, soften

N_CLASSES = 3


def rows_of(n_gold: int, n_synthetic: int, seed: int = 0) -> dict[str, Tensor]:
    """Logits, labels and teacher probabilities of a whole set, gold first; some probabilities are exactly zero."""
    generator = torch.Generator().manual_seed(seed)
    total = n_gold + n_synthetic
    probs = torch.softmax(3 * torch.randn(total, N_CLASSES, generator=generator, dtype=torch.float64), dim=1)
    probs[n_gold::3] = torch.eye(N_CLASSES, dtype=torch.float64)[0]
    probs[:n_gold] = 0
    return {
        "logits": 2 * torch.randn(total, N_CLASSES, generator=generator, dtype=torch.float64),
        "label": torch.randint(N_CLASSES, (total,), generator=generator),
        "probs": probs,
        "synthetic": torch.arange(total) >= n_gold,
    }


def by_hand(rows: dict[str, Tensor], objective: Objective) -> float:
    """L of the whole set, number by number, as the formula is printed."""
    gold, synthetic = [], []
    for logits, label, probs, is_synthetic in zip(*(rows[key].tolist() for key in rows), strict=True):
        if is_synthetic and objective.synthetic_labels == "teacher":
            scaled = [value / objective.temperature for value in logits]
            powers = [p ** (1 / objective.teacher_temperature) for p in probs]
            p_hat = [power / sum(powers) for power in powers]
            log_sum = math.log(sum(math.exp(value) for value in scaled))
            synthetic.append(
                sum(p * (math.log(p) - (value - log_sum)) for p, value in zip(p_hat, scaled, strict=True) if p > 0)
            )
        else:
            gold.append(math.log(sum(math.exp(value) for value in logits)) - logits[label])
    scale = objective.kl_weight * (objective.temperature**2 if objective.t_squared else 1)
    if objective.objective == "released" or not objective.is_soft:
        return (sum(gold) + scale * sum(synthetic)) / (len(gold) + len(synthetic))
    value = sum(gold) / len(gold) if gold else 0.0
    return value + (scale * sum(synthetic) / (N_CLASSES * len(synthetic)) if synthetic else 0.0)


ONE_WINDOW = WindowShape(batch_size=1000)


def over_windows(rows: dict[str, Tensor], objective: Objective, shape: WindowShape = ONE_WINDOW) -> float:
    """An epoch dealt and cut as in training: over ranks and micro-batches, each window divided by its own rows.

    Windows count by their rows, so that an uneven last one counts for less.
    """
    n_synthetic = int(rows["synthetic"].sum())
    total, n_gold = len(rows["label"]), len(rows["label"]) - n_synthetic
    lengths = np.random.default_rng(total).integers(3, 40, total)
    value = 0.0
    for rank in range(shape.world_size):
        for piece in WindowSampler(lengths, n_gold, shape, rank, seed=0):
            stands_in = len(piece.rows) == 0
            part = {key: column[[0] if stands_in else piece.rows] for key, column in rows.items()}
            real = torch.full((len(part["label"]),), not stands_in)
            losses = mixed_rows(*part.values(), real, n_gold, n_synthetic, objective)
            value += float(losses.weighted_sum / piece.window_rows) * piece.window_rows / total
    return value


SIZES = st.tuples(st.integers(0, 40), st.integers(0, 40))
SHAPES = st.builds(WindowShape, st.integers(1, 8), st.integers(1, 4), st.integers(1, 3))
OBJECTIVES = st.builds(
    Objective,
    objective=st.sampled_from(["paper", "released"]),
    synthetic_labels=st.sampled_from(["teacher", "teacher_hard", "prompt"]),
    temperature=st.floats(0.3, 5),
    teacher_temperature=st.floats(0.3, 5),
    kl_weight=st.floats(0, 4),
    t_squared=st.booleans(),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(SIZES.filter(any), OBJECTIVES, SHAPES, st.integers(0, 5))
def test_an_epoch_adds_up_to_the_objective(sizes: tuple[int, int], objective: Objective, shape: WindowShape, seed: int):
    """Whatever the sizes, the proportion, the accumulation and the number of ranks."""
    rows = rows_of(*sizes, seed)
    assert over_windows(rows, objective, shape) == pytest.approx(by_hand(rows, objective), rel=1e-10, abs=1e-12)


def test_a_worked_example_of_equation_1():
    """One gold row with logits (1, 0, 0) and label 0; one synthetic row with logits (0, 1.5, 0) and p = (0, 1, 0)."""
    rows = {
        "logits": torch.tensor([[1.0, 0, 0], [0, 1.5, 0]], dtype=torch.float64),
        "label": torch.tensor([0, 2]),
        "probs": torch.tensor([[0, 0, 0], [0, 1.0, 0]], dtype=torch.float64),
        "synthetic": torch.tensor([False, True]),
    }
    ce = kl = math.log(math.e + 2) - 1  # dividing 1.5 by T = 1.5 gives the same three logits
    assert over_windows(rows, Objective()) == pytest.approx(ce + kl / 3)
    assert over_windows(rows, Objective("released")) == pytest.approx((ce + kl) / 2)


def test_only_the_students_logits_are_divided_by_the_temperature():
    logits, probs = torch.tensor([[3.0, 0, 0]]), torch.tensor([[0.7, 0.2, 0.1]])
    entropy = float(torch.special.entr(probs).sum())
    cross = -float((probs * torch.log_softmax(logits / 1.5, dim=1)).sum())
    assert float(kl_rows(logits, probs, 1.5)) == pytest.approx(cross - entropy, rel=1e-6)


def test_a_student_that_agrees_has_no_divergence():
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]], dtype=torch.float64)
    assert kl_rows(2.5 * probs.clamp_min(1e-300).log(), probs, 2.5).tolist() == pytest.approx([0, 0], abs=1e-12)


def test_zero_probabilities_give_finite_losses_and_gradients():
    logits = torch.zeros(2, N_CLASSES, requires_grad=True)
    kl_rows(logits, torch.eye(N_CLASSES)[:2], 1.5, 0.5).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_rows_that_stand_in_weigh_nothing():
    rows = rows_of(4, 4)
    real = torch.tensor([True] * 4 + [False] * 4)
    logits = rows["logits"].clone().requires_grad_()
    losses = mixed_rows(logits, rows["label"], rows["probs"], rows["synthetic"], real, 4, 4, Objective())
    losses.weighted_sum.backward()
    assert losses.weight_B[4:].eq(0).all()
    assert logits.grad[4:].eq(0).all()
    assert logits.grad[:4].ne(0).any()


def test_hard_labels_do_not_depend_on_the_probabilities_or_the_temperature():
    rows = rows_of(3, 5)
    other = {**rows, "probs": torch.zeros_like(rows["probs"])}
    for labels in ("teacher_hard", "prompt"):
        plain, warm = Objective(synthetic_labels=labels), Objective(synthetic_labels=labels, temperature=4)
        assert over_windows(rows, plain) == over_windows(other, warm)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_softening_equals_dividing_the_teachers_logits(temperature: float):
    logits = torch.randn(50, N_CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 8
    expected = torch.softmax(logits / temperature, dim=1)
    torch.testing.assert_close(soften(torch.softmax(logits, dim=1), temperature), expected)


def test_softening_survives_tiny_probabilities():
    assert soften(torch.tensor([[1e-38, 1.0, 1e-30]]), 0.1).tolist() == [[0.0, 1.0, 0.0]]


def test_t_squared_and_the_weight_multiply_the_divergence_alone():
    rows = rows_of(5, 7)
    plain, doubled = Objective(kl_weight=1), Objective(kl_weight=2)
    squared = Objective(t_squared=True)
    ce_only = over_windows(rows, Objective(kl_weight=0))
    kl = over_windows(rows, plain) - ce_only
    assert over_windows(rows, doubled) == pytest.approx(ce_only + 2 * kl)
    assert over_windows(rows, squared) == pytest.approx(ce_only + 1.5**2 * kl)


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"teacher_temperature": -1}, {"kl_weight": -0.1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]):
    with pytest.raises(InputError, match=f"model.{next(iter(wrong))} .*expected"):
        Objective(**wrong)
