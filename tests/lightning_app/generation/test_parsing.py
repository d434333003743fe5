"""Answers as language models give them, and the text in each."""

import pytest

from lightning_app.generation.parsing import parse


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
    ],
)
def test_what_stands_around_the_text_is_removed(answer: str, text: str):
    assert parse(answer).text == text
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
    ],
)
def test_refusals_are_known(answer: str):
    assert parse(answer).reason == "refusal"


@pytest.mark.parametrize("answer", [None, "", "  \n ", '""', "Review:"])
def test_nothing_is_nothing(answer: str | None):
    assert parse(answer).reason == "empty"
