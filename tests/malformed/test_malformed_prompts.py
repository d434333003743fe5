"""Prompt files, served answers and generated texts."""

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from conftest import LABELS
from doors import assert_line
from hypothesis import given, settings
from hypothesis import strategies as st

from labelbridge.lightning_app.core.artifacts import Manifest
from labelbridge.lightning_app.core.documents import checked
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.core.yaml_files import load_mapping
from labelbridge.lightning_app.data.sources import Rows
from labelbridge.lightning_app.generation.parsing import parse
from labelbridge.lightning_app.generation.prompts import prompt_rows, read_spec
from labelbridge.modules import OpenAIGenerator, TransformersGenerator
from labelbridge.modules.answers import MalformedAnswerError, row_of

TASK = Task("sentiment", ["text"], LABELS)
GOOD: dict[str, Any] = {
    "name": "reviews", "system": "Write in {language}.",
    "classes": {label: f"Write a {label} review about {{domain}}." for label in LABELS},
    "domains": {"travel": 1.0, "food": 2.0}, "vary": {"tone": ["plain", "dry"]},
    "examples": {"positive": ["A fine stay."]},
}  # fmt: skip

# Key -> values that it cannot have; `...` for a missing one.
FIELDS: dict[str, tuple[Any, ...]] = {
    "name": (..., None, 5, [], "", " ", "\u200b"),
    "system": (..., None, 5, [], "{nowhere}", "{", "}", "{0}", "{language!r}", "{language.x}", "{language:>9}"),
    "classes": (
        {"positive": ""}, {"positive": " \n"}, {"positive": "a", "Positive": "b"}, ..., None, [], {}, 5, {"mixed": "x"}, {"positive": None}, {"positive": 5}, {"positive": "{nowhere}"},
        {"positive": "{domain"}, {"positive": "{domain:>10000000000}"}, {"positive": "{domain!x}"},
        {"positive": "{domain:d}"}, {"positive": "{text}"}, {"positive": "{domain.__class__}"},
        {"positive": "{domain[0]}"},
    ),
    "domains": ({"": 1.0}, {" ": 1.0}, None, [], {}, {"a": -1}, {"a": 0}, {"a": "x"}, {"a": None}, {"a": float("nan")}, {"a": float("inf")}),
    "language": (None, 5, [], "", " "),
    "vary": ({"domain": ["a"]}, {"language": ["a"]}, {"text": ["a"]}, None, [], {"tone": []}, {"tone": "plain"}, {"tone": [5]}, {"tone": None}),
    "examples": (
        {"positive": [""]}, {"positive": ["a", "\u200b"]}, None, [], {"positive": "x"}, {"positive": [5]}, {"mixed": ["x"]}, {"positive": [["a", "b"]]},
        {"positive": {"nowhere": ["x"]}}, {"positive": None},
    ),
    "completion": (None, 5, "{nowhere}", "{", "{text}"),
    "shots": (None, 0, -1, 2.5, "two"),
    "chat_examples": (None, "maybe", 5),
    "of_each": (5, [], "text", "domain", "system", "finish"),
    "examples_language": (5, [], ""),
    "extra": (5,),
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [pytest.param(field, value, id=f"{field} {'missing' if value is ... else value!r}") for field, all_ in FIELDS.items() for value in all_],
)  # fmt: skip
def test_a_malformed_prompt_file_is_one_line(tmp_path: Path, field: str, value: Any):
    content = {key: one for key, one in {**GOOD, field: value}.items() if one is not ...}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError) as caught:
        read_spec(str(file), TASK)
    assert_line(str(caught.value), "mine.yaml")


@pytest.mark.parametrize("domain", [5, 1.5, True, ["a"]])
def test_a_domain_of_source_rows_that_is_no_text_is_one_line(tmp_path: Path, domain: Any):
    file = tmp_path / "pairs.yaml"
    classes = dict.fromkeys(LABELS, "{text}, from {domain}")
    file.write_text(yaml.safe_dump({"name": "h", "system": "s", "of_each": "premise", "classes": classes}))
    of = Rows(pa.table({"id": ["1"], "premise": ["a"], "domain": [domain]}), {}, [], {})
    with pytest.raises(InputError) as caught:
        prompt_rows(read_spec(str(file), TASK), TASK, 1, 0, of)
    assert_line(str(caught.value), "domain is .*expected a text")


def test_prompts_for_each_row_show_it(tmp_path: Path):
    file = tmp_path / "pairs.yaml"
    file.write_text(yaml.safe_dump({"name": "h", "system": "s", "of_each": "premise", "classes": {"positive": "x"}}))
    with pytest.raises(InputError) as caught:
        read_spec(str(file), TASK)
    assert_line(str(caught.value), "class positive shows no {text}, expected the premise")


def test_the_prompt_file_is_right_without_these_faults(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(GOOD))
    assert prompt_rows(read_spec(str(tmp_path / "mine.yaml"), TASK), TASK, 7, 0).num_rows == 7


ADDRESSES = [
    "", " ", "localhost:8000", "http://", "http:///v1", "ftp://host/v1", "http://[::1", "http://a:b/v1", "http://a:99999",
    "http://\x00", "http://a b/v1", "http://a\n/v1", "file:///etc/passwd", "//host/v1", "http://a/\x7f", "5", "http://[x]/v1",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_is_none(address: str):
    with pytest.raises(InputError) as caught:
        OpenAIGenerator(base_url=address, task=TASK, model="m")
    assert_line(str(caught.value), "base_url")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("temperature", -1.0), ("temperature", float("nan")), ("temperature", float("inf")), ("top_p", 0.0),
        ("top_p", 1.4), ("top_p", float("nan")), ("max_new_tokens", 0), ("max_new_tokens", -1),
        ("concurrency", 0), ("concurrency", 10**9), ("timeout", 0.0), ("timeout", float("nan")), ("retries", -1),
        ("requests_per_minute", 0.0), ("requests_per_minute", float("nan")),
    ],
)  # fmt: skip
def test_a_setting_of_a_generator_out_of_its_range(setting: str, value: float):
    with pytest.raises(InputError) as caught:
        OpenAIGenerator(base_url="http://localhost/v1", task=TASK, model="m", **{setting: value})  # type: ignore[arg-type]
    assert_line(str(caught.value), setting)


BODIES: dict[str, Any] = {
    "an error in a success": {"error": {"message": "overloaded"}},
    "a page": "<html><body>Sign in</body></html>",
    "nothing": None, "a list": [], "a number": 5, "empty": {}, "no choices": {"choices": []}, "choices null": {"choices": None},
    "choices a text": {"choices": "x"}, "choices a map": {"choices": {"0": {}}},
    "content a number": {"choices": [{"message": {"content": 5}}]},
    "content a map": {"choices": [{"message": {"content": {"text": "x"}}}]},
    "a part without a text": {"choices": [{"message": {"content": [{"type": "text"}]}}]},
    "a refusal": {"choices": [{"message": {"content": None, "refusal": "I cannot."}}]},
    "an error in a choice": {"choices": [{"message": {"content": ""}, "error": {"message": "died"}}]},
    "an error without end": {"error": "x" * 100_000},
    "an error over lines": {"error": {"message": "a\nb\r\n\x1b[31mc"}},
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_answer(name: str):
    with pytest.raises(MalformedAnswerError) as caught:
        row_of(BODIES[name])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


LONG = {
    "spaces": " " * 200_000, "line ends": "a" + "\n" * 200_000 + "b", "tabs": "a" + "\t" * 200_000, "quotes": '"' * 200_000,
    "brackets": "(" * 200_000, "tags": "<think>" * 30_000, "ends of thoughts": "</think>" * 30_000, "stars": "*" * 200_000,
    "bullets": "- " * 100_000, "names": "review: " * 30_000, "backslashes": "\\" * 200_000, "colons": ":" * 200_000,
    "words": "word " * 50_000, "zero-width": "\u200b" * 100_000, "hashes": "# " * 100_000, "openings": "sure! here is " * 15_000,
    "marks": "<|im_end|>" * 20_000, "remarks": "(note " * 40_000, "fences": "```\n" * 50_000, "dashes": "\n---" * 50_000,
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_a_long_text_of_one_kind_takes_no_longer_than_its_length(name: str):
    began = time.process_time()
    parse(LONG[name], LABELS)
    assert time.process_time() - began < 5


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["Review:", '"', "\n", "- ", "**", "</think>", "sure!", " a "])).map("".join)
)
def test_any_answer_is_a_text_or_a_reason(answer: str):
    parsed = parse(answer, LABELS)
    assert bool(parsed.text) != bool(parsed.reason)
    assert parsed.text == parsed.text.strip()
    assert "\n" not in parsed.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(list(Manifest.__dataclass_fields__)), JSON, max_size=12) | JSON)
def test_any_manifest_is_one_or_one_line(content: Any):
    try:
        assert isinstance(checked(Manifest, content, "x/_manifest.json"), Manifest)
    except InputError as error:
        assert_line(str(error), "x/_manifest.json")


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["a", ": ", "\n", "- ", "[", "{", "&x ", "*x", "<<: ", "'", "!", "|"])).map("".join)
)
def test_any_config_is_a_map_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(load_mapping(file), dict)
    except InputError as error:
        assert_line(str(error), "any.yaml")


def test_both_engines_check_what_they_share():
    with pytest.raises(InputError, match="top_p"):
        TransformersGenerator(task=TASK, model="m", top_p=2.0)
