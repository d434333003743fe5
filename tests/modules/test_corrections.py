"""Corrections of the row losses against sums written out by hand, for any cut of the windows."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from labelbridge.datamodules.windows import WindowSampler, WindowShape
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.modules.corrections import Corrections, class_weights, generalised_cross_entropy, importance_weights
from labelbridge.modules.losses import ClassCounts, Objective, cross_entropy_rows, mixed_rows

N_CLASSES = 3


def rows_of(n_gold: int, n_synthetic: int, seed: int = 0) -> dict[str, Tensor]:
    """Logits, labels and teacher probabilities of a whole set, gold first; every class occurs in both."""
    generator = torch.Generator().manual_seed(seed)
    total = n_gold + n_synthetic
    label = torch.randint(N_CLASSES, (total,), generator=generator)
    for start in {0, n_gold} - {total}:
        label[start : start + N_CLASSES] = torch.arange(N_CLASSES)
    return {
        "logits": 2 * torch.randn(total, N_CLASSES, generator=generator, dtype=torch.float64),
        "label": label,
        "probs": torch.softmax(2 * torch.randn(total, N_CLASSES, generator=generator, dtype=torch.float64), dim=1),
        "synthetic": torch.arange(total) >= n_gold,
    }


def counts_of(rows: dict[str, Tensor]) -> ClassCounts:
    synthetic = rows["synthetic"]
    return ClassCounts(*(torch.bincount(rows["label"][of], minlength=N_CLASSES) for of in (~synthetic, synthetic)))


def over_windows(rows: dict[str, Tensor], objective: Objective, corrections: Corrections, shape: WindowShape) -> float:
    """An epoch dealt and cut as in training, over ranks and micro-batches."""
    n_synthetic = int(rows["synthetic"].sum())
    total, n_gold = len(rows["label"]), len(rows["label"]) - n_synthetic
    lengths = np.random.default_rng(total).integers(3, 40, total)
    value = 0.0
    for rank in range(shape.world_size):
        for piece in WindowSampler(lengths, n_gold, shape, rank, seed=0):
            stands_in = len(piece.rows) == 0
            part = {key: column[[0] if stands_in else piece.rows] for key, column in rows.items()}
            real = torch.full((len(part["label"]),), not stands_in)
            losses = mixed_rows(
                *part.values(), real, n_gold, n_synthetic, objective, corrections, counts_of(rows), mean_ratio=0.7
            )
            value += float(losses.weighted_sum) / total
    return value


def by_hand(rows: dict[str, Tensor], objective: Objective, own: Corrections) -> float:
    """The objective of the whole set, number by number."""
    terms: dict[bool, list[float]] = {False: [], True: []}
    shares = {
        flag: [float((rows["label"][rows["synthetic"] == flag] == c).double().mean()) for c in range(N_CLASSES)]
        for flag in (False, True)
    }
    for z, label, p, synthetic in zip(*(rows[key].tolist() for key in rows), strict=True):
        soft = synthetic and objective.is_soft
        pi = shares[synthetic and not soft]
        tau = own.synthetic_logit_adjustment if synthetic else own.logit_adjustment
        adjusted = [value + tau * math.log(share) for value, share in zip(z, pi, strict=True)]
        weight = 1.0
        if soft:
            scaled = [value / objective.temperature for value in adjusted]
            log_sum = math.log(sum(map(math.exp, scaled)))
            loss = sum(q * (math.log(q) - s + log_sum) for q, s in zip(p, scaled, strict=True))
        else:
            log_sum = math.log(sum(map(math.exp, adjusted)))
            log_q = [value - log_sum for value in adjusted]
            if synthetic and own.gce_q:
                loss = (1 - math.exp(log_q[label]) ** own.gce_q) / own.gce_q
            else:
                smooth = own.label_smoothing
                loss = -(1 - smooth) * log_q[label] - smooth * sum(log_q) / N_CLASSES
            gamma = own.class_weighting
            weight = pi[label] ** -gamma / sum(share ** (1 - gamma) for share in pi)
        if synthetic and own.importance_clip is not None:
            student = math.exp(z[label]) / sum(map(math.exp, z))
            weight *= min(p[label] / student, own.importance_clip) / 0.7
        if synthetic and max(p) < own.min_confidence:
            weight = 0.0
        terms[synthetic].append(weight * loss)
    n_gold, n_synthetic = len(terms[False]), len(terms[True])
    if not objective.is_soft or objective.objective == "released":
        return (sum(terms[False]) + sum(terms[True])) / (n_gold + n_synthetic)
    return sum(terms[False]) / n_gold + sum(terms[True]) / (N_CLASSES * n_synthetic)


SHAPES = st.builds(WindowShape, st.integers(1, 8), st.integers(1, 4), st.integers(1, 3))
CORRECTIONS = st.builds(
    Corrections,
    logit_adjustment=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    synthetic_logit_adjustment=st.sampled_from([0.0, 1.0]),
    class_weighting=st.sampled_from([0.0, 0.5, 1.0]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    importance_clip=st.sampled_from([None, 0.8, 3.0]),
    min_confidence=st.sampled_from([0.0, 0.6]),
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(3, 25), st.integers(3, 25)), st.sampled_from(["paper", "released"]),
    st.sampled_from(["teacher", "prompt"]), CORRECTIONS, SHAPES, st.integers(0, 5),
)  # fmt: skip
def test_an_epoch_adds_up_to_the_corrected_objective(sizes, objective, labels, corrections, shape, seed):
    rows, kind = rows_of(*sizes, seed), Objective(objective, labels)
    if kind.is_soft:  # refused by the student
        corrections = replace(corrections, importance_clip=None)
    expected = by_hand(rows, kind, corrections)
    assert over_windows(rows, kind, corrections, shape) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_the_generalised_cross_entropy_touches_synthetic_rows_alone(q: float):
    rows, kind, own = rows_of(9, 11), Objective(synthetic_labels="prompt"), Corrections(gce_q=q)
    assert over_windows(rows, kind, own, WindowShape(4)) == pytest.approx(by_hand(rows, kind, own), rel=1e-10)


def test_the_generalised_cross_entropy_tends_to_cross_entropy():
    ce = torch.tensor([1e-9, 0.5, 4.0], dtype=torch.float64)
    torch.testing.assert_close(generalised_cross_entropy(ce, 1e-7), ce, rtol=1e-5, atol=0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=2, max_size=6), st.floats(0, 3))
def test_class_weights_have_mean_one_over_the_rows(counts: list[int], gamma: float):
    shares = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    weights = class_weights(shares.log(), gamma)
    assert float((shares * weights).sum()) == pytest.approx(1)
    if gamma == 1:
        assert (shares * weights).tolist() == pytest.approx([1 / len(counts)] * len(counts))


def test_logit_adjustment_at_one_is_the_balanced_softmax():
    """Ren et al., eq. 4: the loss of class y is -log(n_y exp z_y / sum_j n_j exp z_j)."""
    rows = rows_of(20, 0)
    counts = torch.bincount(rows["label"], minlength=N_CLASSES)
    losses = cross_entropy_rows(
        rows["logits"], rows["label"], torch.ones(20, dtype=torch.bool), Corrections(logit_adjustment=1.0),
        ClassCounts(counts),
    )  # fmt: skip
    scores = counts * rows["logits"].exp()
    expected = -(scores[torch.arange(20), rows["label"]] / scores.sum(dim=1)).log()
    torch.testing.assert_close(losses.ce_B, expected)
    assert losses.weight_B.eq(1).all()


def test_soft_labels_are_adjusted_by_the_gold_of_their_teacher():
    """Its shares need not be those of the student's gold; without any the prior is gone already."""
    rows, soft, own = rows_of(0, 9), Objective(temperature=1.0), Corrections(synthetic_logit_adjustment=1.0)
    counts = torch.tensor([6, 3, 1])
    real = torch.ones(9, dtype=torch.bool)
    losses = mixed_rows(*rows.values(), real, 0, 9, soft, own, ClassCounts(torch.tensor([1, 1, 1]), None, counts))
    log_student = torch.log_softmax(rows["logits"] + (counts / 10).log(), dim=1)
    expected = (rows["probs"] * (rows["probs"].log() - log_student)).sum(dim=1)
    torch.testing.assert_close(losses.kl_B, expected)
    with pytest.raises(InputError, match="model.synthetic_logit_adjustment has nothing to adjust"):
        mixed_rows(*rows.values(), real, 0, 9, soft, own, ClassCounts(counts, None, torch.zeros(3)))


def test_balanced_counts_need_no_adjustment():
    rows = rows_of(9, 0)
    rows["label"] = torch.arange(9) % 3
    real = torch.ones(9, dtype=torch.bool)
    plain = cross_entropy_rows(rows["logits"], rows["label"], real)
    own = Corrections(logit_adjustment=1.0, class_weighting=1.0)
    corrected = cross_entropy_rows(rows["logits"], rows["label"], real, own, ClassCounts(torch.tensor([3, 3, 3])))
    torch.testing.assert_close(corrected.weighted_sum, plain.weighted_sum)


def test_importance_weights_carry_no_gradient_and_survive_zeros():
    logits = torch.zeros(2, N_CLASSES, requires_grad=True)
    probs = torch.tensor([[0.0, 0.5, 0.5], [0.9, 0.1, 0.0]])
    ratio = importance_weights(logits, torch.tensor([0, 0]), probs, clip=2.0)
    assert ratio.tolist() == pytest.approx([0.0, 2.0])  # 0 and 0.9 / (1/3), clipped
    assert not ratio.requires_grad


def test_a_class_without_rows_has_no_prior():
    rows = rows_of(5, 0)
    own = Corrections(logit_adjustment=1.0)
    with pytest.raises(InputError, match=r"data.train: rows per class \[2, 0, 3\], expected at least one row of each"):
        cross_entropy_rows(
            rows["logits"], rows["label"], torch.ones(5, dtype=torch.bool), own, ClassCounts(torch.tensor([2, 0, 3]))
        )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"logit_adjustment": -1},
            "model.logit_adjustment is -1, expected 0 <= logit_adjustment <= 100; 0 turns it off",
        ),
        ({"label_smoothing": 1.5}, "model.label_smoothing is 1.5, expected 0 <= label_smoothing < 1; 0 turns"),
        ({"importance_clip": 0}, "model.importance_clip is 0, expected 0 < importance_clip; null turns it off"),
        ({"gce_q": 0.7, "label_smoothing": 0.1}, "expected one of the two"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], said: str):
    with pytest.raises(InputError, match=said):
        Corrections(**wrong)
