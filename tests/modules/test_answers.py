"""What a server answers is a text, or a row with the server's own words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelbridge.lightning_app.generation.cleaning import _unfinished
from labelbridge.lightning_app.generation.parsing import parse
from labelbridge.modules.answers import MalformedAnswerError, row_of, whole

GOOD = "A fine hotel, and a kind host."


def answer(content: object = GOOD, finish: object = "stop", **message: object) -> dict[str, object]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    return {"id": "x", "choices": [choice], "usage": {"completion_tokens": 7}}


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        [{"type": "text", "text": GOOD}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": GOOD}],
        [
            {"type": "reasoning", "text": "hm"},
            {"type": "output_text", "text": GOOD[:9]},
            {"type": "text", "text": GOOD[9:]},
        ],
        [GOOD[:9], GOOD[9:]],
    ],
)
def test_a_content_may_come_in_parts(content: object):
    assert row_of(answer(content)) == {"text": GOOD, "finish": "stop", "error": None, "n_tokens": 7}


def test_thoughts_in_a_field_of_their_own_are_no_text():
    assert row_of(answer(GOOD, reasoning_content="They want a review."))["text"] == GOOD
    with pytest.raises(MalformedAnswerError, match="its text is empty, and it ended with length"):
        row_of(answer(None, "length", reasoning="They want"))


@pytest.mark.parametrize("content", ["", " \n", None, [], [{"type": "text", "text": ""}]])
def test_an_empty_text_is_a_failed_row(content: object):
    with pytest.raises(MalformedAnswerError, match="its text is empty, and it ended with stop"):
        row_of(answer(content))


@pytest.mark.parametrize(
    ("finish", "said", "reason"),
    [
        ("stop", "stop", None),
        ("eos_token", "stop", None),
        ("STOP", "stop", None),
        ("length", "length", "cut"),
        ("content_filter", "content_filter", "filtered"),
        ("tool_calls", "tool_calls", "unfinished"),
        (None, "unknown", "unfinished"),
    ],
)
def test_a_clean_stop_alone_counts_as_finished(finish: str | None, said: str, reason: str | None):
    row = row_of(answer(finish=finish))
    assert row["finish"] == said
    assert _unfinished(row["finish"], keep_cut=False) == reason
    assert _unfinished(row["finish"], keep_cut=True) == (None if reason == "cut" else reason)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "Model overloaded", "code": 503}}, "Model overloaded"),
        ({"choices": None, "error": "out of memory"}, "out of memory"),
        ({"choices": [], "detail": "no such model"}, "no such model"),
        ("<html><body>Sign in</body></html>", "no answer but <html><body>Sign in"),
        ({"choices": []}, "no answer in it"),
        ("  ", "no answer in it"),
        ({"choices": [None]}, "its first choice has no message"),
        ({"choices": ["x"]}, "its first choice has no message"),
        ({"choices": [{"finish_reason": "stop", "message": None}]}, "its first choice has no message"),
        ({"choices": [{"finish_reason": "stop", "text": "of another protocol"}]}, "its first choice has no message"),
        (None, "no answer in it"),
        ([], "no answer in it"),
        (answer(5), "its content is 5, expected a text"),
        (answer([{"type": "text", "text": None}]), "expected texts"),
        (answer(None, refusal="I cannot write this."), "refused: I cannot write this."),
        ({"choices": [{"message": {"content": ""}, "error": {"message": "upstream died"}}]}, "upstream died"),
    ],
)
def test_what_is_no_answer_is_told_in_the_servers_words(body: object, said: str):
    with pytest.raises(MalformedAnswerError, match=said) as caught:
        row_of(body)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("finish", [5, True, {"a": 1}, ["stop"], ""])
def test_an_end_that_is_no_text_is_unknown(finish: object):
    assert row_of(answer(finish=finish))["finish"] == "unknown"
    assert len(row_of(answer(finish="x" * 9999))["finish"]) < 200


def test_half_an_emoji_is_replaced_and_an_entire_one_is_left():
    assert row_of(answer("good \ud83d"))["text"] == "good \ufffd"
    assert whole("\ud83d\ude00 \ude00\ud83d") == "\U0001f600 \ufffd\ufffd"


@pytest.mark.parametrize("tokens", [None, "7", -1, 2.5, {}, True, 2**62, 10**30])
def test_a_count_of_tokens_that_is_none_is_made_up(tokens: object):
    assert row_of({**answer(), "usage": {"completion_tokens": tokens}})["n_tokens"] == 7
    assert row_of({**answer(), "usage": None})["n_tokens"] == 7


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("text") | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "type", "text", "error", "finish_reason", "usage", "x"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(ANYTHING)
def test_any_body_is_a_row_or_one_line(body: object):
    try:
        row = row_of(body)
    except MalformedAnswerError as error:
        row = {"text": "", "finish": str(error), "n_tokens": 0}
    (row["text"] + row["finish"]).encode()
    assert "\n" not in row["finish"] or isinstance(body, dict)
    assert isinstance(row["n_tokens"], int)


@pytest.mark.parametrize(
    "raw",
    [
        f"<think>short and kind</think>{GOOD}",
        f"They want a review.\n</think>\n\n{GOOD}",
        f"hm </THINK> no, again </think>{GOOD}",
        f"<thinking>\nplan\n</thinking>\n{GOOD}",
        f"[THINK]plan[/THINK]{GOOD}",
        f"<|channel|>analysis<|message|>plan<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}<|return|>",
        f"◁think▷plan◁/think▷{GOOD}",
    ],
)
def test_all_up_to_the_end_of_a_thought_is_none_of_the_text(raw: str):
    assert parse(raw).text == GOOD


@pytest.mark.parametrize(
    "raw", ["<think>and so on", "<think>a</think>", "x</think>  ", "<|channel|>analysis<|message|>hm"]
)
def test_a_thought_without_an_end_or_a_text_is_empty(raw: str):
    assert parse(raw).reason == "empty"
