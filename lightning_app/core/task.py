"""What is being classified: the text columns and the labels, in one fixed order."""

import unicodedata
from dataclasses import dataclass

import regex

from .errors import InputError, shorten

# Names of columns that are not texts.
RESERVED = ("id", "lang", "label", "prompt_label", "prediction", "probs", "embedding", "class")


def fold(name: str) -> str:
    """What two spellings of a name have in common: letter case and the Unicode normal form are ignored."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


_SIGN = regex.compile(r"[^\p{Z}\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]")


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: it holds spaces, control characters, byte-order marks or zero-width signs alone."""
    return _SIGN.search(text) is None


@dataclass(frozen=True)
class Task:
    """A classification task.

    Args:
        name: Short name, such as `sentiment`.
        columns: One text column, or two for a pair such as `[premise, hypothesis]`.
        labels: Label names. Their order is the order of every probability vector and of every model's logits.
    """

    name: str
    columns: list[str]
    labels: list[str]

    def __post_init__(self) -> None:
        if not 1 <= len(self.columns) <= 2 or len(set(self.columns)) < len(self.columns):
            raise InputError(f"task {self.name}: text columns {self.columns}, expected one or two different names")
        taken = next((name for name in self.columns if name in RESERVED or is_blank(name)), None)
        if taken is not None:
            raise InputError(
                f"task {self.name}: text column {taken!r}, expected a name that no other column has; call it `text`, "
                "and say with `columns` of the source what it is called there"
            )
        if len({fold(name) for name in self.labels if not is_blank(name)}) < max(2, len(self.labels)):
            raise InputError(
                f"task {self.name}: labels {self.labels}, expected two or more different names, none of them empty"
            )

    def match(self, name: str) -> str | None:
        """The task's own spelling of a label, or None if it is not in the task; see `fold` for what is ignored."""
        return self._by_folded_name.get(fold(name))

    def index(self, name: str, place: str) -> int:
        """The position of a label; `place` says in the error where the label was found.

        Raises:
            InputError: If the label is not in the task.
        """
        own = self.match(name)
        if own is None:
            raise InputError(
                f"{place}: label {shorten(name)} is not one of {self.labels}; map it with `label_map` (to null to drop)"
            )
        return self.labels.index(own)

    @property
    def _by_folded_name(self) -> dict[str, str]:
        return {fold(label): label for label in self.labels}
