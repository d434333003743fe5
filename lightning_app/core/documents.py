"""Values from JSON and YAML files, checked against a declared type; and JSON files, read in one place."""

import json
import math
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from .errors import InputError, closest, is_unicode, shorten
from .files import read_text
from .task import is_blank

T = TypeVar("T")
# pydantic's words -> ours.
_PLAIN = {
    "a valid string": "a text", "a valid integer": "a whole number", "a valid number": "a number",
    "a valid array": "a list", "a valid list": "a list", "an object": "a map", "a valid dictionary": "a map",
    "a valid boolean": "true or false",
}  # fmt: skip
# What pydantic calls an unknown key: of `known_key`, of a dataclass, of a TypedDict.
UNKNOWN_KEY = ("unknown_key", "unexpected_keyword_argument", "extra_forbidden")


def read_json(path: Path, remedy: str = "run its stage again", finite: bool = True) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        remedy: The end of the error line.
        finite: Whether its numbers must be finite.

    Raises:
        InputError: If it cannot be read, is not JSON, or holds a duplicate key or a number that is not finite.
    """
    numbers: dict[str, Any] = {"parse_constant": _refuse_constant, "parse_float": _finite} if finite else {}
    try:
        return json.loads(read_text(path), object_pairs_hook=without_duplicates, **numbers)
    except RecursionError:
        raise InputError(f"{path}: not JSON (nested too deeply); {remedy}") from None
    except ValueError as error:  # not UTF-8 and not JSON among them
        raise InputError(f"{path}: not JSON ({shorten(str(error), 120)[1:-1]}); {remedy}") from None


def checked(declared: type[T], value: Any, place: object, remedy: str = "run its stage again") -> T:
    """Check a value against a declared type, strictly: no text passes for a number.

    Args:
        declared: A dataclass or another type that pydantic knows; its fields say what is expected.
        value: What was read.
        place: What an error calls it.
        remedy: The end of the error line.

    Raises:
        InputError: Names the first field that is wrong, and its value.
    """
    from pydantic import ValidationError

    try:
        # By way of JSON: in strict mode a dataclass would have to be one already.
        found: T = _adapter(cast("Hashable", declared)).validate_json(json.dumps(value), strict=True)
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise InputError(f"{place}: {shorten(str(error), 120)[1:-1]}; {remedy}") from None
        if (half := _half_sign(value)) is not None:
            raise InputError(
                f"{place}: {half or 'it'} holds half of a surrogate pair (a cut emoji); remove it"
            ) from None
        # A key that is written wrong is missing too: the unknown one says more.
        wrong = error.errors(include_url=False, include_context=False)
        first = next((one for one in wrong if one["type"] in UNKNOWN_KEY), None) or _deepest(wrong, value)
        field = " ".join(".".join(_place(first, value)).split())
        what = "is missing" if first["type"] == "missing" else f"is {shorten(first['input'])}"
        said = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        expected = "" if first["type"] in ("missing", "missing_argument") else f", expected {_PLAIN.get(said, said)}"
        if first["type"] in UNKNOWN_KEY:
            known = _keys_in(declared, first["loc"][:-1])
            meant = said if first["type"] == UNKNOWN_KEY[0] else closest(str(first["loc"][-1]), known) if known else ""
            what, expected = "is not known", f", {meant}" if meant else ""
        raise InputError(f"{place}: {field or 'it'} {what}{expected}; {remedy}") from None
    return found


def filled() -> Any:
    """What an annotation says of a text that must show something."""
    from pydantic import AfterValidator
    from pydantic_core import PydanticCustomError

    def check(text: str) -> str:
        if is_blank(text):
            raise PydanticCustomError("blank", "a text that is not blank")
        return text

    return AfterValidator(check)


def _place(error: Mapping[str, Any], value: Any) -> list[str]:
    """The keys that lead to what is wrong, without the types that pydantic tried on a value that may have several."""
    parts: list[str] = []
    is_told = error["type"] == "missing" or error["type"] in UNKNOWN_KEY
    for number, part in enumerate(error["loc"], start=1):
        is_inside = (
            part in value if isinstance(value, dict) else isinstance(value, list | tuple) and isinstance(part, int)
        )
        if is_inside:
            value = value[part]
        if is_inside or (is_told and part != "[key]" and number == len(error["loc"])):
            parts.append(str(part))
    return parts


def _half_sign(value: Any, field: str = "") -> str | None:
    """The place of a text that cannot be encoded, or of a key; None where there is none."""
    if isinstance(value, str):
        return None if is_unicode(value) else field
    if isinstance(value, dict):
        if not all(is_unicode(key) for key in value if isinstance(key, str)):
            return field
        value = list(value.items())
    else:
        value = list(enumerate(value)) if isinstance(value, list | tuple) else []
    inside = (_half_sign(one, f"{field}.{key}".lstrip(".")) for key, one in value)
    return next((one for one in inside if one is not None), None)


def _deepest(wrong: Sequence[Mapping[str, Any]], value: Any) -> Mapping[str, Any]:
    """The error to tell: the first; where a value may have several types, that of the type it is most like."""
    top = _place(wrong[0], value)
    alternatives = [one for one in wrong if _place(one, value)[: len(top)] == top]
    return max(alternatives, key=lambda one: len(_place(one, value)))


def known_key(known: Collection[str], dotted: bool = False) -> Any:
    """What an annotation says of a key that is one of these names; `checked` names the closest one in an error.

    Args:
        known: The names.
        dotted: Whether a key's first part is the name, as in `model.prior`.
    """
    from pydantic import AfterValidator
    from pydantic_core import PydanticCustomError

    def check(key: str) -> str:
        name = key.partition(".")[0] if dotted else key
        if name not in known:
            raise PydanticCustomError(UNKNOWN_KEY[0], "{remedy}", {"remedy": closest(name, sorted(known))})
        return key

    return AfterValidator(check)


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The keys of a JSON object, for `json.loads`.

    Raises:
        ValueError: If a key occurs twice: one of the values would be lost.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"duplicate key {shorten(twice)}")
    return found


def _keys_in(declared: Any, place: Sequence[object]) -> list[str]:
    """The keys that a declared type has at a place inside of it, by its JSON schema; empty where that does not say."""
    root = _adapter(declared).json_schema()

    def resolved(schema: Any) -> Any:
        return root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema

    schema = resolved(root)
    for part in place:
        inner = schema.get("properties", {}).get(part) or schema.get("items") or schema.get("additionalProperties")
        schema = resolved(inner) if isinstance(inner, dict) else {}
    return list(schema.get("properties", {}))


@cache
def _adapter(declared: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(declared)


def _finite(text: str) -> float:
    """A number with a point or an exponent; 1e999 is infinite to Python."""
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")
