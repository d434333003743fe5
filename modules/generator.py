"""Modules that write text: the contract that all engines share."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.ranges import check_range
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.protocols import Batch, Counts, HandOver, PromptBatch, StepRows, batch_rows

from .base import StageModuleBase

Answers = dict[str, list[Any]]


class GeneratorModule(StageModuleBase):
    """What all engines share: `predict` gives each prompt `text`, `finish`, `error` and `n_tokens`.

    An engine of your own subclasses this and gives `answer`; nothing else is required.

    `finish` is `stop` or `length` (cut at the limit); a row that failed has no text, and its reason in `error`.

    Args:
        task: Text columns and labels of what is written.
        model: The model's name.
        max_new_tokens: Longest answer.
        temperature: Divisor of the logits; 0 takes the most likely token.
        top_p: Nucleus: the smallest set of tokens with this much probability.
        seed: Seed of sampling; linked to `seed_everything`.
    """

    HAS_FILES: ClassVar[bool] = False

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
        self.hand_over: HandOver = lambda *_: None

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the rows that a run writes; JSON values."""
        names = ("max_new_tokens", "temperature", "top_p", "seed")
        own = {name: vars(self)[name] for name in names}
        return {**super().identity(subcommand), "task": vars(self.task), **own}

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> StepRows:
        """Answers to a batch of prompts."""
        answers = completed(self.answer(batch["id"], batch["system"], batch["user"], batch["completion"]), "text")
        return batch_rows(batch, answers, written_counts(batch, answers["n_tokens"], batch["prompt_label"]))

    def answer(self, ids: list[str], systems: list[str], users: list[str], completions: list[str | None]) -> Answers:
        """Write a text for each prompt.

        Args:
            ids: Row ids, which seed the sampling.
            systems: Rules, for a chat.
            users: Requests, for a chat.
            completions: The same requests for a base model; None where the prompt file has no examples.

        Returns:
            `text`, a text or None for each prompt. `finish`, `error` and `n_tokens` are optional: by default a text is
            finished, one that is None failed without a reason, and its words are counted.
        """
        raise NotImplementedError


def written_counts(batch: Batch, n_tokens: Sequence[int], labels: Sequence[str | None] = ()) -> Counts:
    """What an engine has done: tokens are those that it wrote, padding is what the longest made the others wait for.

    Args:
        batch: The batch.
        n_tokens: Tokens of each of its texts.
        labels: The classes that its prompts asked for.
    """
    if not batch["n_rows"]:
        return Counts(0, 0, 0)
    cells = max([*n_tokens, 1]) * len(n_tokens)
    return Counts(batch["n_rows"], sum(n_tokens), cells, tuple(label for label in labels if label is not None))


def completed(written: Mapping[str, list[Any]], column: str) -> dict[str, list[Any]]:
    """What an engine has written, with the columns that it may leave out.

    Args:
        written: Column -> one value for each row.
        column: The column of texts.

    Raises:
        InputError: If it has no such column, or columns of several lengths.
    """
    texts = written.get(column)
    lengths = {name: len(values) for name, values in written.items()}
    if texts is None or len(set(lengths.values())) > 1:
        raise InputError(f"the engine returned {lengths}, expected '{column}' and one value for each row everywhere")
    failed = [text is None for text in texts]
    defaults: dict[str, list[Any]] = {
        "finish": ["error" if is_missing else "stop" for is_missing in failed],
        "error": ["no text" if is_missing else None for is_missing in failed],
        "n_tokens": [len(text.split()) if text is not None else 0 for text in texts],
    }
    return {column: texts, **defaults, **written}
