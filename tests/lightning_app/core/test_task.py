"""The task: columns and labels."""

import pytest

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task, is_blank


def test_labels_match_whatever_their_case(task: Task):
    assert (task.match("POSITIVE"), task.match("Neutral"), task.match("mixed")) == ("positive", "neutral", None)
    assert task.index("NEGATIVE", "here") == 0


def test_an_unknown_label_is_named_with_its_place(task: Task):
    with pytest.raises(InputError, match=r"pool.csv row 7: label 'meh' is not one of .*label_map"):
        task.index("meh", "pool.csv row 7")


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\ufeff", "\x07", "\u200d\ufe0f", "\u3164"])
def test_a_text_that_shows_nothing_is_blank(text: str):
    assert is_blank(text)
    assert not is_blank(f"{text}.")


@pytest.mark.parametrize(
    ("columns", "labels"),
    [([], ["a", "b"]), (["a", "b", "c"], ["a", "b"]), (["a"], ["a"]), (["a"], ["a", "A"])],
)
def test_a_task_that_cannot_be(columns: list[str], labels: list[str]):
    with pytest.raises(InputError, match="task t: .*expected"):
        Task("t", columns, labels)
