"""Filters over rows."""

import pytest

from labelbridge.lightning_app.data.near_duplicates import key_of
from labelbridge.lightning_app.generation.filters import doubled, near_duplicates_of, other_language


@pytest.mark.parametrize(
    ("text", "is_other"),
    [
        ("The service at this hotel was slow and rude.", False),
        ("It was served by the Aeropuerto Internacional de la Ciudad de México.", False),
        ("We had the jalapeño poppers and a piñata for dinner.", False),
        ("Reports from #Friedrichshafen via @schnäppchen https://example.org/größe", False),
        ("El hotel fue terrible.", False),  # four words tell, but not surely
        ("Das Essen war kalt und die Bedienung unfreundlich.", True),
        ("Mtu huyo alikuwa amelala kwenye kiti cha bustani.", True),
        ("मुझे यह फ़िल्म बहुत अच्छी लगी।", True),
        ("मला हा चित्रपट खूप आवडला.", True),
        ("这家酒店非常糟糕。", True),
        ("यह अच्छा है", True),
        ("👍👍👍 👍 👍", False),
    ],
)
def test_an_english_pool(text: str, is_other: bool):
    english = ["A plain sentence of the pool that nobody doubts."] * 3
    assert other_language([*english, text], [None] * 4, "en")[-1] is is_other


def test_a_hindi_pool_keeps_hindi():
    texts = ["मुझे यह फ़िल्म बहुत अच्छी लगी।", "यह बहुत खराब होटल था, मैं फिर नहीं आऊँगा।", "I liked this film a lot."]
    assert other_language(texts, [None] * 3, "hi") == [False, False, True]


def test_kinds_of_quotes_and_end_marks_make_no_difference():
    assert key_of("“It’s  Fine…”") == key_of("it's fine")
    assert key_of("ہوٹل اچھا تھا۔") == key_of("ہوٹل اچھا تھا")
    assert key_of("café") != key_of("cafe")


def test_near_duplicates_are_exactly_those_at_the_threshold():
    """Word triples in common over all triples: 0.6 of rows 0 and 1, 0.25 of rows 0 and 2."""
    keys = [("a b c d e f",), ("a b c d e g",), ("a b c x e f",), ("q r s t",)]
    assert near_duplicates_of(keys, [None] * 4, 0.6) == [False, True, False, False]
    assert near_duplicates_of(keys, [None] * 4, 0.61) == [False] * 4
    assert near_duplicates_of(keys, ["cut", None, None, None], 0.6) == [False] * 4


def test_pairs_are_near_when_both_sides_are():
    keys = [("a b c d e f", "m n o p"), ("a b c d e f", "v w x y"), ("a b c d e g", "m n o p")]
    assert near_duplicates_of(keys, [None] * 3, 0.6) == [False, False, True]
    assert doubled([("a", "b"), ("a", "c"), ("a", "b")], [None] * 3) == [False, False, True]
