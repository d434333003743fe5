"""Modules that write text: the contract that both engines share."""

from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import LightningModule

from labelbridge.lightning_app.core.ranges import check_range
from labelbridge.lightning_app.core.task import Task

Answers = dict[str, list[Any]]


class GeneratorModule(LightningModule):
    """What both engines share: `predict` gives each prompt `text`, `finish`, `error` and `n_tokens`.

    `finish` is `stop` or `length` (cut at the limit); a row that failed has no text, and its reason in `error`.

    Args:
        task: Text columns and labels of what is written.
        model: The model's name.
        max_new_tokens: Longest answer.
        temperature: Divisor of the logits; 0 takes the most likely token.
        top_p: Nucleus: the smallest set of tokens with this much probability.
        seed: Seed of sampling; linked to `seed_everything`.
    """

    def __init__(
        self,
        task: Task,
        model: str,
        max_new_tokens: int = 256,
        temperature: float = 1.5,
        top_p: float = 0.9,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_range("model.max_new_tokens", max_new_tokens, least=1)
        check_range("model.temperature", temperature, least=0)
        check_range("model.top_p", top_p, above=0, most=1)
        self.task = task
        self.model_name = model
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.seed = seed
        # RowWriter puts its own here: an engine whose rows end one by one need not keep them to the end of a batch.
        self.hand_over: Callable[[Sequence[int], Answers], None] = lambda *_: None

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the rows that a run writes; JSON values."""
        names = ("max_new_tokens", "temperature", "top_p", "seed")
        return {"class": type(self).__name__, "task": vars(self.task), **{name: getattr(self, name) for name in names}}

    def check(self, subcommand: str) -> None:
        """Refuse a model that cannot serve, before any row is read."""

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Answers:
        """Answers to a batch of prompts."""
        answers = self.answer(batch["id"], batch["system"], batch["user"], batch["completion"])
        # What is reported as tokens/s is what was written; padding, what the longest answer made others wait for.
        batch["n_tokens"] = sum(answers["n_tokens"])
        batch["n_cells"] = max([*answers["n_tokens"], 1]) * len(answers["n_tokens"])
        return answers

    def answer(self, ids: list[str], systems: list[str], users: list[str], completions: list[str | None]) -> Answers:
        """Write a text for each prompt.

        Args:
            ids: Row ids, which seed the sampling.
            systems: Rules, for a chat.
            users: Requests, for a chat.
            completions: The same requests for a base model; None where the prompt file has no examples.
        """
        raise NotImplementedError
