"""From a model's answer to the text in it. Unicode stays as it is: no accent is stripped, nothing respaced."""

import re
from dataclasses import dataclass

_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "'": "'", "‘": "’", "`": "`", "「": "」"}
_LABELS = (
    "review", "sentence", "tweet", "subtitle", "text", "premise", "hypothesis", "answer", "output", "response",
    "example", "statement", "post", "line", "comment", "headline", "समीक्षा", "उत्तर",
)  # fmt: skip
_NAMES = "|".join(_LABELS)
# "Sure! Here is a positive review:", and any such opening that ends its line with a colon.
_PREAMBLE = re.compile(
    rf"^\W{{0,3}}(?:here(?:'s|’s| is| are)|sure|certainly|of course|okay|ok)\b"
    rf"(?:[^:\n]{{0,100}}\b(?:{_NAMES})s?\b[^:\n]{{0,60}}:\s*|[^:\n]{{0,140}}:\s*\n\s*)",
    re.IGNORECASE,
)
_PREFIX = re.compile(
    rf"^\W{{0,3}}(?:[\w-]+\s+){{0,2}}(?:{_NAMES})\s*(?:\d+|\([^)]{{0,40}}\))?\s*\**\s*:\s*\**\s*", re.IGNORECASE
)
_OPENERS = re.compile(r"^(?:sure|certainly|of course)!\s+", re.IGNORECASE)
_BULLET = re.compile(r"^(?:[-*•–]\s+|\(?\d{1,2}[.)]\s+)")
_CHATTER = re.compile(
    r"\n+\s*(?:(?:let me know|i hope|note(?: that)?:|please note|feel free|is there anything|would you like|"
    r"explanation:)"
    r".*)\Z",
    re.IGNORECASE | re.DOTALL,
)
_REFUSAL = re.compile(
    r"\b(?:i (?:can(?:no|')t|cannot|am unable to|'m unable to|am not able to|won't) (?:\w+\s+){0,3}"
    r"(?:create|generate|provide|write|fulfil+|satisfy|comply|assist|help|engage|produce)"
    r"|i apologi[sz]e,? but|i'm sorry,? but i|as an ai\b|as a (?:large )?language model|i'm just an ai"
    r"|it is not (?:appropriate|ethical)|against my (?:guidelines|programming))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Parsed:
    """What is in an answer.

    Args:
        text: The text itself; empty if there is none.
        reason: Why there is none, or None.
    """

    text: str
    reason: str | None = None


def parse(answer: str | None) -> Parsed:
    """Take the text out of an answer: without quotes around it, prefixes such as "Review:", bullets and chatter.

    Only what stands around the text is removed; the text's own letters, accents, apostrophes and digits are untouched
    ("3.5" stays "3.5"). Line breaks inside become spaces. Several items (a list) are not one text: the first is taken.
    """
    if answer is None or not answer.strip():
        return Parsed("", "empty")
    straight = answer.replace("’", "'")
    if _REFUSAL.search(straight[:300]):
        return Parsed("", "refusal")
    text = _CHATTER.sub("", answer.strip())
    for _ in range(3):  # "1. Review: “...”" has three layers
        before = text
        text = _BULLET.sub("", text.strip())
        text = _OPENERS.sub("", _PREAMBLE.sub("", text).strip())
        text = _PREFIX.sub("", text).strip()
        text = _unquote(text)
        if text == before:
            break
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and all(_BULLET.match(line) for line in lines[1:]):
        lines = lines[:1]
    text = " ".join(lines)
    return Parsed(text) if text else Parsed("", "empty")


def _unquote(text: str) -> str:
    """Remove a pair of quotes around the whole, not quotes that open and close inside."""
    closing = _QUOTES.get(text[:1])
    if closing is None or len(text) < 2 or not text.endswith(closing):
        return text
    inside = text[1:-1]
    return text if closing in inside or text[0] in inside else inside.strip()
