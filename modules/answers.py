"""What a server's answer amounts to: a text, how it ended, or what went wrong in the server's own words."""

from collections.abc import Mapping
from typing import Any

from labelbridge.lightning_app.core.errors import shorten
from labelbridge.lightning_app.core.ranges import MOST_TOKENS
from labelbridge.lightning_app.generation.cleaning import CLEAN_ENDS

MOST_WORDS = 160  # characters of what a server says


class MalformedAnswerError(ValueError):
    """Not an answer: an error inside a success, a web page, a content that is no text."""


def row_of(answer: Any) -> dict[str, Any]:
    """The columns of an answered row.

    Args:
        answer: What the openai client made of the body; it does not check it.

    Returns:
        `text`, `finish` (`stop` for a clean end, else what the server calls it), `error`, `n_tokens`.

    Raises:
        MalformedAnswerError: If there is no text in it.
    """
    choices = _of(answer, "choices")
    if not isinstance(choices, list) or not choices:
        raise MalformedAnswerError(_what_it_says(answer))
    choice = choices[0]
    message = _of(choice, "message")
    if message is None and not _of(choice, "error"):
        raise MalformedAnswerError("its first choice has no message")
    refusal = _of(message, "refusal")
    text = _text(_of(message, "content"))
    if not text and isinstance(refusal, str) and refusal:
        raise MalformedAnswerError(f"refused: {_quoted(refusal)}")
    error = _of(choice, "error") or _of(answer, "error")
    if error and not text:
        raise MalformedAnswerError(_quoted(error))
    tokens = _of(_of(answer, "usage"), "completion_tokens")
    is_count = isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= MOST_TOKENS
    end = _of(choice, "finish_reason")
    end = " ".join(end.split())[:MOST_WORDS] if isinstance(end, str) and end else "unknown"
    if not text.strip():
        raise MalformedAnswerError(f"its text is empty, and it ended with {_quoted(end)}")
    return {
        "text": whole(text),
        "finish": "stop" if end.casefold() in CLEAN_ENDS and not error else whole(end),
        "error": None,
        "n_tokens": tokens if is_count else len(text.split()),
    }


def whole(text: str) -> str:
    """A text that can be written down: half of a surrogate pair (a cut emoji) becomes the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text(content: Any) -> str:
    """The text of a content, which may come in parts; those that are thoughts, images or calls are none."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise MalformedAnswerError(f"its content is {shorten(content)}, expected a text")
    texts = [part if isinstance(part, str) else _of(part, "text") for part in content if _is_text(part)]
    if not all(isinstance(text, str) for text in texts):
        raise MalformedAnswerError(f"its content is {shorten(content)}, expected texts")
    return "".join(texts)


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or _of(part, "type") in ("text", "output_text")


def _what_it_says(answer: Any) -> str:
    if isinstance(answer, str) and answer.strip():
        return f"no answer but {_quoted(answer)}"
    return words_of(answer) or "no answer in it"


def words_of(error: Any) -> str:
    """What the content of an answer that is an error says, on one line; empty where it says nothing.

    Args:
        error: A text, or what its JSON holds: a map, or a list of which the first counts.
    """
    if isinstance(error, list):
        return words_of(error[0]) if error else ""
    said = _of(error, "error") or _of(error, "detail") or _of(error, "message")
    return _quoted(said or (error if isinstance(error, str) else ""))


def _quoted(value: Any) -> str:
    """A server's words on one line."""
    said = _of(value, "message") or value
    return shorten(whole(" ".join(str(said).split())), MOST_WORDS)[1:-1]


def _of(value: Any, name: str) -> Any:
    """A field of what may be a model, a map, or neither."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
