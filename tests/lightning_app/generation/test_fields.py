"""Fields of prompt files are names: no widths, no attributes, no other code."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.generation.fields import fill, names_in
from labelbridge.lightning_app.generation.prompts import read_spec

SPEC = "name: m\nsystem: Rules in {language}.\nclasses: {negative: N, neutral: N, positive: P}\n"


def test_names_are_filled_in_and_braces_written_twice_are_braces():
    assert names_in("{a} {{b}} {c}{a}") == {"a", "c"}
    assert fill("{a} {{b}} {c}{a}", {"a": 1, "c": "{x}", "unused": 2}) == "1 {b} {x}1"


@pytest.mark.parametrize(
    "template",
    ["{domain:10000000000}", "{domain:>5}", "{domain!x}", "{domain!r}", "{domain.__class__}", "{domain[0]}", "{", "}",
     "{a b}", "{}", "{domain:{language}}"],
)  # fmt: skip
def test_what_is_no_name_is_refused_in_one_line(tmp_path: Path, task: Task, template: str):
    file = tmp_path / "p.yaml"
    file.write_text(SPEC.replace("positive: P", f"positive: 'Write {template} now'"))
    said = "p.yaml: class positive: a lone .*write a brace that is meant as such twice"
    with pytest.raises(InputError, match=said) as caught:
        read_spec(str(file), task)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("name: 5", "name is 5, expected a text"),
        ("system: [a]", r"system is \['a'\], expected a text"),
        ("language: no", "language is False, expected a text"),
        ("shots: two", "shots is 'two', expected a whole number"),
        ("vary: {tone: [calm, 5]}", "vary.tone.1 is 5, expected a text"),
        ("domains: {a: much}", "domains.a is 'much', expected a number"),
        ("domains: {a: .nan}", "domains"),
        ("domains: {a: .inf}", "domains"),
        ("classes: {positive: [a]}", r"classes.positive is \['a'\]"),
        ("chat_examples: 1", "chat_examples is 1, expected true or false"),
    ],
)
def test_values_of_another_kind(tmp_path: Path, task: Task, line: str, said: str):
    file = tmp_path / "p.yaml"
    key = line.split(":", maxsplit=1)[0]
    file.write_text("".join(one + "\n" for one in SPEC.splitlines() if not one.startswith(f"{key}:")) + line)
    with pytest.raises(InputError, match=f"p.yaml: {said}") as caught:
        read_spec(str(file), task)
    assert "\n" not in str(caught.value)


@given(st.text(alphabet="{}ab!:.[ ", max_size=12))
def test_any_template_is_filled_or_refused(template: str):
    try:
        names = names_in(template)
    except ValueError:
        return
    assert len(fill(template, dict.fromkeys(names, "x"))) <= len(template)
