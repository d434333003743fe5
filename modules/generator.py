"""Modules that write text: the contract that all engines share."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Annotated, Any, ClassVar

from labelbridge.lightning_app.core.errors import InputError, is_unicode, shorten
from labelbridge.lightning_app.core.ranges import NonNegativeFloat, Range, Seed, Tokens, check_ranges
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.protocols import Batch, Counts, HandOver, PromptBatch, StepRows, batch_rows

from .base import StageModuleBase

Answers = dict[str, list[Any]]

COLDEST = 1e-3  # logits over a smaller temperature may leave float32


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

    @check_ranges("model.")
    def __init__(
        self,
        task: Task,
        model: str,
        max_new_tokens: Tokens = 256,
        temperature: NonNegativeFloat = 1.5,
        top_p: Annotated[float, Range(above=0, most=1)] = 0.9,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        if 0 < temperature < COLDEST:
            raise InputError(f"model.temperature is {temperature}, expected {COLDEST} or more, or 0 for the likeliest")
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
        given = self.answer(batch["id"], batch["system"], batch["user"], batch["completion"])
        answers = completed(given, "text", len(batch["id"]))
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


def completed(written: Any, column: str, rows: int) -> dict[str, list[Any]]:
    """What an engine has written, with the columns that it may leave out.

    Args:
        written: Column -> one value for each row.
        column: The column of texts.
        rows: How many rows it was given.

    Raises:
        InputError: If it has no such column, or columns of another length, or with values of another type.
    """
    if not isinstance(written, Mapping) or not all(isinstance(values, list) for values in written.values()):
        raise InputError(
            f"the engine returned {shorten(written)}, expected a map from '{column}' to a list; fix its code"
        )
    lengths = {name: len(values) for name, values in written.items()}
    if column not in written or set(lengths.values()) != {rows}:
        raise InputError(
            f"the engine returned {lengths}, expected '{column}' and one value for each row everywhere ({rows} rows); "
            "fix its code"
        )
    _check_values(written, column, (str, type(None)), "a text or None")
    failed = [text is None for text in written[column]]
    columns: dict[str, list[Any]] = {
        "finish": ["error" if is_missing else "stop" for is_missing in failed],
        "error": ["no text" if is_missing else None for is_missing in failed],
        "n_tokens": [len(text.split()) if text is not None else 0 for text in written[column]],
        **written,
    }
    _check_values(columns, "finish", (str,), "`stop`, `length` or `error`")
    _check_values(columns, "error", (str, type(None)), "a text or None")
    _check_values(columns, "n_tokens", (Integral,), "a whole number")
    return {column: written[column], **columns}


def _check_values(columns: Mapping[str, list[Any]], name: str, kinds: tuple[type, ...], expected: str) -> None:
    for value in columns[name]:
        if not isinstance(value, kinds) or (isinstance(value, str) and not is_unicode(value)):
            raise InputError(f"the engine returned {shorten(value)} as {name}, expected {expected}; fix its code")
