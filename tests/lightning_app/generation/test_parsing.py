"""Answers as language models give them, and the text in each."""

import pytest

from labelbridge.lightning_app.generation.parsing import parse


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('"Great film."', "Great film."),
        ("“Loved it.”", "Loved it."),
        ("“Loved it”, she said.", "“Loved it”, she said."),
        ("“Good” and “bad” are both wrong.", "“Good” and “bad” are both wrong."),
        ("Review: A gem.", "A gem."),
        ("Negative review: A mess.", "A mess."),
        ('1. Review: "A gem."', "A gem."),
        ("**Review:** A gem.", "A gem."),
        ('Sure! Here is a positive review:\n\n"A café to love."', "A café to love."),
        ("Here's a tweet about travel: Off to Rome!", "Off to Rome!"),
        ("Off to Rome!\n\nLet me know if you want another one.", "Off to Rome!"),
        ("- A fine day.\n- Another one.", "A fine day."),
        ("Hypothesis: A man sleeps.", "A man sleeps."),
        ("It was long.\nIt was good.", "It was long. It was good."),
        ("Absolutely! Here is a short review:\n\nThe beach was lovely.", "The beach was lovely."),
        ("Here you go:\n\nIt was a phone.", "It was a phone."),
        ("Sure thing! “I loved it.”", "I loved it."),
        ("Of course! The hotel was cold.", "The hotel was cold."),
        ("Title: Awful trip\n\nReview: The trip was awful.", "The trip was awful."),
        ("Premise: A man sleeps.\nHypothesis: He is tired.", "He is tired."),
        ("# Review\n\nGreat.", "Great."),
        ("Review 1: A fine film.\n\nReview 2: A grand film.", "A fine film."),
        ("A gem.\n\n(Note: this review is fictional.)", "A gem."),
        ("A gem.\n\nThis review uses a dry tone.", "A gem."),
        ("A gem. (12 words)", "A gem."),
        ("A gem.\n\nRating: 5/5", "A gem."),
        ("'I don't like it.'", "I don't like it."),
        ("‘I don’t like it.’", "I don’t like it."),
        ("„Toller Film.”", "Toller Film."),
        ("『すごい映画』", "すごい映画"),
        ('""A gem.""', "A gem."),
        ("``A gem.''", "A gem."),
        ('"A gem', "A gem"),
        ('A gem."', "A gem."),
        ("**A gem.**", "A gem."),
        ("```\nA gem.\n```", "A gem."),
        ("<think>A dry one, then.</think>\n\nA gem.", "A gem."),
        ("<|assistant|> A gem.</s>", "A gem."),
        ("ज़रूर! यहाँ एक समीक्षा है:\n\nफ़िल्म अच्छी है।", "फ़िल्म अच्छी है।"),
        ("Negative: A mess.", "A mess."),
        ("[Negative] A mess.", "A mess."),
    ],
)
def test_what_stands_around_the_text_is_removed(answer: str, text: str):
    assert parse(answer, ["negative", "neutral", "positive"]).text == text
    assert parse(answer).reason is None


@pytest.mark.parametrize(
    "text",
    [
        "It costs 3.5 euros at the café.",
        "I don’t mind; it’s naïve, but fine.",
        "यह 2.5 घंटे की फ़िल्म अच्छी है।",
        "Okay, it was fine.",
        "Here's the thing: it works.",
        "The plot: thin. The cast: great.",
        "I can't believe how good it was.",
        "Note to self: never again.",
        "2 stars. Never again.",
        "Zoë’s “Résumé” – a must.",
        "ہوٹل بہت اچھا تھا۔",
        "I loved it! 😊👨‍👩‍👧",
        'A screen of 5.5"',
        "“Loved it”, and “hated it”",
        "Great.\n#rome".replace("\n", " "),
        "The bottom line: avoid it.",
        "Okay so this text message thing: nope",
        "Here's a sentence I never thought I'd write: I love it.",
        "-5 degrees outside, and no heating.",
        "<b>Tiny</b> but good.",
    ],
)
def test_texts_survive_untouched(text: str):
    assert parse(text).text == text


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot fulfill your request. I'm just an AI.",
        "I apologize, but I cannot create content of that kind.",
        "As an AI language model, I do not have opinions.",
        "I’m sorry, but I can’t write that.",
        "I can't provide a negative review about a real product.",
        "I'm not able to write negative content.",
        "I’m unable to fulfil that request.",
        "I must respectfully decline.",
        "I do not feel comfortable writing this.",
        "As a responsible AI assistant, I cannot do so.",
        "Sorry, but I can't help with that.",
        "It is not appropriate to write such a review.",
        "I don't have personal opinions.",
        "मैं यह नहीं लिख सकता, क्योंकि मैं एक एआई हूँ।",
    ],
)
def test_refusals_are_known(answer: str):
    assert parse(answer).reason == "refusal"


@pytest.mark.parametrize("answer", [None, "", "  \n ", '""', "Review:"])
def test_nothing_is_nothing(answer: str | None):
    assert parse(answer).reason == "empty"


@pytest.mark.parametrize(
    "text",
    [
        "I can't help but love this place.",
        "I can't provide enough praise for the cook!",
        "I'm sorry, but I expected more of this hotel.",
        "I apologize, but this film is trash.",
        "It is not appropriate for children under ten.",
        "I won't help him again.",
        "First, I must point out that the router was hard to install.",
        "I cannot write with this pen; it leaks.",
    ],
)
def test_customers_and_heroes_are_no_refusals(text: str):
    assert parse(text).text == text


def test_a_thought_that_never_ends_is_no_text():
    assert parse("<think>Let me see, a review about").reason == "empty"
