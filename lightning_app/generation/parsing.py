"""From a model's answer to the text in it. Unicode stays as it is: no accent is stripped, nothing respaced."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..core.task import is_blank

# Opening -> closing marks of a text as a whole; the longer ones first.
_QUOTES = (
    ('""', '""'), ("``", "''"), ('\\"', '\\"'), ("**", "**"), ('"', '"'), ("“", "”"), ("„", "“"), ("„", "”"),
    ("”", "”"), ("«", "»"), ("»", "«"), ("‹", "›"), ("'", "'"), ("‘", "’"), ("`", "`"),
    ("「", "」"), ("『", "』"), ("*", "*"),
)  # fmt: skip
_STRAY = '"“”„«»'  # a lone one at an end is half a pair
# What a text may be called in a prefix, behind up to two words ("A short review:"), and what only stands alone.
_NAMES = (
    "review", "sentence", "tweet", "subtitle", "premise", "hypothesis", "headline", "समीक्षा", "वाक्य", "ट्वीट",
    "पुनरावलोकन", "sentensi", "maoni", "جائزہ", "جملہ",
)  # fmt: skip
_ALONE = (
    "text", "answer", "output", "response", "example", "statement", "post", "line", "comment", "उत्तर", "assistant",
)  # fmt: skip
_NAME = "|".join(_NAMES)
_AGREED = r"(?:sure(?: thing)?|certainly|of course|absolutely|great|gladly|okay|ok|yes|alright)"
_OPENING = r"here(?:'s|’s| is| are| you go)"
_PREAMBLE = re.compile(
    rf"^\W{{0,3}}(?:"
    # "Sure! Here is a positive review of a hotel: ..." on one line, which must name what comes, and nobody's own words.
    rf"(?:{_AGREED}\b[,.!:]*\s*)?{_OPENING}\b(?:(?!\bi\b)[^:\n]){{0,100}}\b(?:{_NAME}|{'|'.join(_ALONE)})s?\b"
    rf"(?:(?!\bi\b)[^:\n]){{0,60}}:[ \t]*"
    # The same, or any such opening, that ends its line.
    rf"|(?:{_OPENING}|{_AGREED})\b[^\n]{{0,140}}:\**\s*\n\s*"
    # "Of course!" before another line.
    r"|(?:sure|certainly|of course|absolutely)[!.,]*\s*\n+\s*|assistant\s*\n+\s*"
    # The same in Hindi, Marathi and Swahili: a line that says "here is" and ends in a colon.
    r"|(?:[^:\n]{0,30}[\s!,])?(?:यहाँ|यहां|येथे|hapa)(?=\s)[^:\n]{0,100}:\s*\n\s*"
    r")",
    re.IGNORECASE,
)  # fmt: skip
_PREFIX = re.compile(
    rf"^\W{{0,3}}(?:(?:[\w-]+\s+){{0,2}}(?:{_NAME})|(?:the\s+|your\s+|subtitle\s+)?(?:{'|'.join(_ALONE)}))"
    r"\s*(?:#?\d+|\([^)]{0,40}\))?\s*\**\s*:\s*\**\s*",
    re.IGNORECASE,
)
# A heading, a title or the premise again, before the line that holds the text.
_TITLE = re.compile(
    rf"\A(?:#{{1,6}} .*\n+|\W{{0,3}}title\W{{0,3}}:.*\n+(?=\W{{0,3}}(?:{_NAME})\W{{0,3}}:)"
    r"|\W{0,3}premise\W{0,3}:.*\n+(?=\W{0,3}(?:hypothesis|sentence|new sentence)\W{0,3}:))",
    re.IGNORECASE,
)
_OPENERS = re.compile(rf"^(?:(?:sure|certainly|of course)!\s+|{_AGREED}!\s+(?=[\"“'‘«]))", re.IGNORECASE)
MOST_BLANKS = 50
# Many patterns below begin with blanks of any number, and would take time in the square of it.
_LONG_BLANK = re.compile(rf"\s{{{MOST_BLANKS + 1},}}")
_BLANK = " \t\r\n\u200b\ufeff"
_BULLET = re.compile(r"^(?:[-*•–]\s+|\(?\d{1,2}[.)]\s+)")
# Thoughts end with such a tag, wherever they began: the opening one may stand in the prompt.
_END_OF_THOUGHT = re.compile(
    r"</(?:think|thinking|thought|reasoning|reflection|seed:think)>|\[/THINK\]|◁/think▷|<\|channel\|>final<\|message\|>",
    re.IGNORECASE,
)
_THOUGHT = re.compile(
    r"^\s*(?:<(?:think|thinking|thought|reasoning|reflection|seed:think)>|\[THINK\]|◁think▷|<\|channel\|>)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\s*\Z", re.DOTALL)
# Marks of a chat template that a server leaves in.
_MARK = r"(?:<\|\w+\|>|</?(?:s|eos|bos|pad|start_of_turn|end_of_turn|im_start|im_end)>|\[/?INST\])"
_MARKUP = re.compile(rf"\A\s*(?:{_MARK}\s*)+|(?:\s*{_MARK}){{1,50}}\s*\Z")
_CHATTER = re.compile(
    r"\n\s*(?:"
    # A line of talk about the answer, and all behind it.
    r"\W{0,3}(?:let me know|i hope (?:this|that|you)|note(?: that)?\s*:|please note|feel free|is there anything|"
    r"would you like|explanation\s*:|word count|rating\s*:|"
    r"this (?:review|sentence|tweet|line|hypothesis|premise|text|answer) "
    r"(?:is|uses|has|contains|meets|follows|expresses|conveys|does)\b)"
    r"|-{3,}\s*\n).*\Z",
    re.IGNORECASE | re.DOTALL,
)
_REMARK = re.compile(r"\s*\((?:note\b[^()]*|\d+ (?:words|characters))\)\s*\Z", re.IGNORECASE)
_ASKED = (
    r"(?:content|requests?|reviews?|sentences?|texts?|tweets?|posts?|statements?|opinions?|dialogues?|examples?|"
    r"responses?|prompts?|hypothes[ie]s|premises?|subtitles?|material|instructions?|guidelines)"
)
_WRITING = (
    r"(?:create|creating|generate|generating|provide|providing|write|writing|produce|producing|complete|offer|share|"
    r"engage in)"
)
_REFUSALS = (
    # What no customer and no hero says.
    r"\bas an? (?:\w+ )?ai\b",
    r"\bas a (?:large )?language model",
    r"\bi(?:'m| am) (?:just |only )?an? (?:ai|artificial|language model)\b",
    r"\bmy (?:ethical |content )?(?:programming|guidelines)\b",
    r"\bi don't have personal (?:opinions|feelings|experiences|beliefs)",
    r"\bi must (?:respectfully )?(?:decline|inform you|remind you)",
    r"\bi(?:'d| would) (?:prefer|rather) not (?:to )?(?:write|create|generate|engage|provide)",
    r"\bi apologi[sz]e\b[^.\n]{0,40}?,? but (?:i|as|it is|it's) ?(?:can|'m|am|must|do not|don't|won't|an|not)\b",
    r"\b(?:not|n't) (?:be )?(?:appropriate|ethical)\b[^.\n]{0,30} to (?:write|create|generate|provide|promote)\b",
    # Being unable to do what was asked: the verb, and the request or its kind of text.
    r"\bi(?:'m| am|'ll)? ?(?:can(?:no|')t|can not|unable to|not able to|won't|will not|not comfortable|"
    r"do(?: not|n't) feel comfortable)\b(?: \w+){0,5}? "
    rf"(?:{_WRITING}(?: (?:that|this|it|such|so)\b|(?: [\w-]+){{0,6}}? {_ASKED}\b)"
    r"|(?:fulfil+|satisfy|comply with|assist(?: you)? with|help(?: you)? with|answer)(?: \w+)? "
    r"(?:that|this|your|the|such|any)\b|comply\b|assist (?:you|further))",
    r"\A\W*(?:(?:i'm|i am) )?sorry,?(?: but)? i (?:can(?:no|')t|can not)(?: \w+)? do (?:that|so)\s*[.!]?\s*\Z",
    # "I am an AI" in Hindi, Marathi, Urdu and Swahili.
    r"(?:मैं|मी) एक (?:एआई|ए\.?आई|AI|भाषा)",
    r"एआई (?:मॉडल|सहायक|असिस्टेंट)",
    r"میں ایک (?:اے آئی|AI)",
    r"\bmimi ni (?:AI\b|programu|mfano wa lugha)",
)
_REFUSAL = re.compile("|".join(_REFUSALS), re.IGNORECASE)


@dataclass(frozen=True)
class Parsed:
    """What is in an answer.

    Args:
        text: The text itself; empty if there is none.
        reason: Why there is none, or None.
    """

    text: str
    reason: str | None = None


def parse(answer: str | None, labels: Sequence[str] = ()) -> Parsed:
    """Take the text out of an answer: without quotes around it, prefixes such as "Review:", bullets and chatter.

    Only what stands around the text is removed; the text's own letters, accents, apostrophes and digits are untouched
    ("3.5" stays "3.5"). Line breaks inside become spaces. Several items (a list) are not one text: the first is taken.

    Args:
        answer: The model's answer.
        labels: Class names, which must not stand before the text ("Negative: ...").
    """
    if answer is None or is_blank(answer):
        return Parsed("", "empty")
    answer = _LONG_BLANK.sub(lambda run: run[0][:MOST_BLANKS], answer)
    text = _END_OF_THOUGHT.split(answer)[-1].strip(_BLANK)
    if _THOUGHT.match(text):  # one that never ended
        return Parsed("", "empty")
    if _REFUSAL.search(text.replace("’", "'")[:300]):
        return Parsed("", "refusal")
    text = _MARKUP.sub("", text)
    text = _REMARK.sub("", _CHATTER.sub("", text)).strip()
    for _ in range(3):  # "1. Review: “...”" has three layers
        before = text
        text = _BULLET.sub("", _FENCE.sub(r"\1", text).strip())
        text = _OPENERS.sub("", _TITLE.sub("", _PREAMBLE.sub("", text)).strip())
        text = _PREFIX.sub("", text).strip()
        text = _label_prefix(tuple(labels)).sub("", text).strip() if labels else text
        text = _unquote(text)
        if text == before:
            break
    text = " ".join(_first_item([line.strip() for line in text.splitlines() if line.strip()]))
    return Parsed("", "empty") if is_blank(text) else Parsed(text)


@lru_cache
def _label_prefix(labels: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(map(re.escape, labels))
    return re.compile(rf"^\W{{0,3}}(?:(?:{names})\**\s*:\**\s*|[\[(](?:{names})[\])]\s*:?\s*)", re.IGNORECASE)


def _first_item(lines: list[str]) -> list[str]:
    """The lines of the text; of a list, or of several texts with a prefix each, the first."""
    again = next((number for number, line in enumerate(lines) if number and _PREFIX.match(line)), None)
    if again is not None:
        return lines[:again]
    return lines[:1] if len(lines) > 1 and all(_BULLET.match(line) for line in lines[1:]) else lines


def _unquote(text: str) -> str:
    """Remove a pair of quotes around the whole, or half of one, not quotes that open and close inside."""
    for opening, closing in _QUOTES:
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            inside = text[len(opening) : -len(closing)]
            bare = re.sub(r"(?<=\w)['’](?=\w)", "", inside)  # an apostrophe closes nothing
            return text if closing in bare or opening in bare else inside.strip()
    if text in ('""', "“”", "''"):
        return ""
    stray = [mark for mark in text if mark in _STRAY]
    if len(stray) == 1 and text[0] in _STRAY:
        return text[1:].strip()
    return text[:-1].strip() if len(stray) == 1 and text[-1] in _STRAY and not text[-2:-1].isdigit() else text
