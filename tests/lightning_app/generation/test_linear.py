"""Text of any shape is parsed in time that grows with its length: none makes a pattern try again and again."""

import time

import pytest

from labelbridge.lightning_app.core.languages import language
from labelbridge.lightning_app.data.near_duplicates import key_of
from labelbridge.lightning_app.generation.parsing import parse
from labelbridge.lightning_app.translation.gates import Gates, judge

LONG = 100_000
PIECES = [
    " ", "\n", "\t", "\n \n", "\u00a0", "\u200b", "a", "a ", "A-", "1", "1,", "1,22,", "12 345 ", "1.234.", "10/10/", "(", ")",
    "(note", "(1 words)", "[", "]", "{", "<", ">", "<s>", "<s> ", "</s>", "[INST]", "<think>", "</think>", "<|x|>",
    "```", "```\n", "#", "# a\n", "- ", "* ", "1. ", '"', "'", "“", "”", "*", "**", "`", ":", "a:", "review:",
    "Here is a review:", "sure!", "title:\n", "premise: a\n", "note:", "\nnote:", "---\n", "ok\n", "I cannot", "@a",
    "https://", "https://a ", "अ", "अ ", "你", "e\u0301", "\ufeff", "negative:", "[negative]",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("piece", PIECES, ids=ascii)
def test_a_long_answer_takes_no_longer_than_its_length(piece: str):
    run = piece * (LONG // len(piece))
    began = time.process_time()
    for answer in (run, f"Review: {run}x", f"x{run} end"):
        key_of(parse(answer, ["negative", "positive"]).text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("piece", ["1,22,", "1 222 ", "10/10/", "a ", "अ", "12.", "ab", "1"], ids=ascii)
def test_a_long_translation_takes_no_longer_than_its_length(piece: str):
    text = piece * (30_000 // len(piece))
    began = time.process_time()
    judge([text, "short"], [text + "x", text + "7"], Gates(language=False), language("hi", "x"))
    assert time.process_time() - began < 5


def test_blanks_inside_a_text_are_left_but_for_very_many():
    assert parse("a   b").text == "a   b"
    assert len(parse("a" + " " * 200_000 + "b").text) < 100
