"""Keys that a user writes into a configuration, kept out of everything that a run writes down or prints."""

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_NAME = re.compile(
    r"(?:.*[_-])?(?:api[_-]?key|key|token|secret|password|passwd|authorization|credentials?)", re.IGNORECASE
)
# In any text `key` and `token` alone may be labels or columns.
_NAME_IN_TEXT = (
    r"(?:(?:[\w-]{0,40}[_-])?(?:api[_-]?key|secret|password|passwd|authorization|credentials?)"
    r"|[\w-]{1,40}[_-](?:key|token)|(?<=extra\.)(?:key|token)|(?<=[?&])(?:key|token))"
)
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+(?=@)")
# `name: value` and `name=value`, in quotes or not; a number is no secret.
_ASSIGNED = re.compile(
    rf"(?<![\w-])({_NAME_IN_TEXT}[\"']?\s{{0,9}}[:=]\s{{0,9}}[\"']?)(?!\d+\b|null\b|\*\*\*)[^\s\"',&}}]"
    r"(?:[^\"',&}\n]*[^\s\"',&}])?",
    re.IGNORECASE,
)


def mask(value: Any) -> Any:
    """Settings without their secrets: texts under a key's name, and those inside of texts."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        return {
            key: MASK if isinstance(inner, str) and _NAME.fullmatch(str(key)) else mask(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask(inner) for inner in value]
    return value


def mask_text(text: str) -> str:
    """A text without the user and password of addresses, and without what is assigned to a key."""
    return _ASSIGNED.sub(rf"\1{MASK}", _IN_ADDRESS.sub(MASK, text))
