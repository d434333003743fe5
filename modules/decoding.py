"""Decoding that stops paying for texts that have ended."""

# B = rows still being written, L = tokens so far, T = tokens written

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


class MostHaveEnded(StoppingCriteria):  # type: ignore[misc] # transformers is untyped here
    """Ends `generate` for all rows as soon as at least half of them hold an end token.

    Args:
        end: The end tokens, as a tensor on the rows' device.
        prompt: Tokens of the prompt, where end tokens do not count.
    """

    def __init__(self, end: Tensor, prompt: int) -> None:
        self.end = end
        self.prompt = prompt

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """The same answer for every row; shape (B,)."""
        ended_B = torch.isin(input_ids[:, self.prompt :], self.end).any(dim=1)
        return torch.full_like(ended_B, bool(2 * ended_B.sum() >= len(ended_B)))


def generate(
    network: Any,
    inputs: Mapping[str, Tensor],
    processors: Callable[[list[int], int], LogitsProcessorList],
    config: GenerationConfig,
) -> list[list[int]]:
    """What `network.generate` writes, without computing rows that have ended.

    Each time half of the rows have ended, they leave the batch and the key-value cache, and `generate` goes on with the
    others: the longest of many texts is several times as long as their mean. A network whose cache cannot
    lose rows (state-space models, for example) writes all rows to the end in one call.

    Args:
        network: A causal language model of transformers.
        inputs: `input_ids` and `attention_mask` of shape (B, L), padded on the left.
        processors: Makes the logits processors from the places of the rows that are still being written and the number
            of tokens that each has so far.
        config: `max_new_tokens` is the most a row gets, `eos_token_id` the list of tokens that end one.

    Returns:
        The tokens written for each row, its end token included; what follows that is undefined.
    """
    ids_BL, mask_BL = inputs["input_ids"], inputs["attention_mask"]
    prompt = ids_BL.shape[1]
    end = torch.tensor(config.eos_token_id, device=ids_BL.device)
    stop_early = StoppingCriteriaList([MostHaveEnded(end, prompt)])
    rows = list(range(len(ids_BL)))
    written: list[list[int]] = [[] for _ in rows]
    cache: Any = None
    while rows:
        so_far = ids_BL.shape[1] - prompt
        part = copy.deepcopy(config)
        part.update(max_new_tokens=config.max_new_tokens - so_far, return_dict_in_generate=True)
        output = network.generate(
            input_ids=ids_BL,
            attention_mask=mask_BL,
            **({} if cache is None else {"cache": cache}),
            logits_processor=processors(rows, so_far),
            stopping_criteria=stop_early,
            generation_config=part,
        )
        new_BL, cache = output.sequences, output.cache
        if stop_early and not _can_be_cut(cache):
            stop_early, cache = StoppingCriteriaList(), None
            continue  # once more from the prompts, for this network cannot go on with a part of the rows
        ids_BL = new_BL
        ended_B = torch.isin(ids_BL[:, prompt:], end).any(dim=1)
        if ids_BL.shape[1] - prompt >= config.max_new_tokens:
            ended_B[:] = True
        for place in ended_B.nonzero()[:, 0].tolist():
            written[rows[place]] = ids_BL[place, prompt:].tolist()
        kept_B = (~ended_B).nonzero()[:, 0]
        rows = [rows[place] for place in kept_B.tolist()]
        ids_BL = ids_BL[kept_B]
        mask_BL = pad(mask_BL[kept_B], (0, ids_BL.shape[1] - mask_BL.shape[1]), value=1)
        if rows:
            cache.batch_select_indices(kept_B)
    return written


def _can_be_cut(cache: Any) -> bool:
    """Whether rows can be taken out of a cache: every layer must hold keys and values alone, no recurrent state."""
    if not isinstance(cache, DynamicCache):
        return False
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)
