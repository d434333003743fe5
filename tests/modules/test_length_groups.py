"""A batch in groups of similar length has the logits and gradients of the whole, for less padding."""

import itertools
from pathlib import Path

import pytest
import torch
from conftest import LABELS
from transformers import AutoTokenizer

from labelbridge.lightning_app.core.task import Task
from labelbridge.modules.heads import load_classifier
from labelbridge.modules.length_groups import cut, in_groups

TASK = Task("sentiment", ["text"], LABELS)
TEXTS = [
    "good",
    "it",
    "was",
    "it was a very very good morning with the table " * 2,
    "the table was very cold",
    "a table",
    "cold",
]


def cost(lengths: list[int], ends: tuple[int, ...], group_cost: float) -> float:
    bounds = [0, *ends, len(lengths)]
    return sum((end - first) * lengths[end - 1] + group_cost for first, end in itertools.pairwise(bounds))


@pytest.mark.parametrize("group_cost", [0.0, 5.0, 64.0])
@pytest.mark.parametrize("lengths", [[7], [3, 3, 3], [2, 3, 9, 10, 40], [1, 1, 1, 50, 60, 61, 128]])
def test_groups_have_the_least_cost_of_all(lengths: list[int], group_cost: float):
    groups = cut(lengths, group_cost)
    assert [row for rows, _ in groups for row in range(len(lengths))[rows]] == list(range(len(lengths)))
    assert all(longest == max(lengths[rows]) for rows, longest in groups)
    ends = tuple(rows.stop for rows, _ in groups[:-1])
    places = range(1, len(lengths))
    every = [
        cost(lengths, one, group_cost) for size in range(len(lengths)) for one in itertools.combinations(places, size)
    ]
    assert cost(lengths, ends, group_cost) == min(every)


@pytest.mark.parametrize("base", ["tiny_bert", "tiny_xlmr"])
def test_logits_and_gradients_are_those_of_the_padded_batch(base: str, request: pytest.FixtureRequest):
    folder: Path = request.getfixturevalue(base)
    network = load_classifier(str(folder), TASK, new_head=True).double().eval()
    inputs = dict(
        AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, truncation=True, max_length=60, return_tensors="pt")
    )
    shapes: list[torch.Size] = []

    def logits(given: dict[str, torch.Tensor]) -> torch.Tensor:
        shapes.append(given["input_ids"].shape)
        return network(**given).logits

    found = []
    for values_BC in (network(**inputs).logits, in_groups(logits, inputs, group_cost=10)):
        network.zero_grad()
        values_BC.logsumexp(dim=1).sum().backward()
        gradients = {
            name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None
        }
        found.append((values_BC.detach(), gradients))
    (whole_BC, of_whole), (grouped_BC, of_groups) = found
    assert len(shapes) > 1
    assert sum(shape.numel() for shape in shapes) < inputs["input_ids"].numel()
    torch.testing.assert_close(grouped_BC, whole_BC, rtol=0, atol=1e-12)
    for name, gradient in of_whole.items():
        torch.testing.assert_close(of_groups[name], gradient, rtol=1e-9, atol=1e-12)


def test_rows_that_are_padded_at_their_start_stay_together():
    mask_BL = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    inputs = {"input_ids": torch.arange(8).view(2, 4), "attention_mask": mask_BL}
    calls = []
    in_groups(lambda given: calls.append(given["input_ids"]) or given["input_ids"].float(), inputs)
    assert [call.tolist() for call in calls] == [inputs["input_ids"].tolist()]


def test_rows_without_tokens_keep_one_position():
    mask_BL = torch.zeros(3, 300, dtype=torch.long)
    mask_BL[1] = 1
    inputs = {"input_ids": torch.arange(900).view(3, 300), "attention_mask": mask_BL}
    first_BL = in_groups(lambda given: given["input_ids"][:, :1].float(), inputs)
    assert first_BL.tolist() == [[0.0], [300.0], [600.0]]
