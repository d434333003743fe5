"""YAML: keys as they are written, none twice, and no file that takes for ever to walk."""

import time
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT
from hypothesis import given
from hypothesis import strategies as st

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.yaml_files import YamlError, load_mapping, load_yaml


def test_keys_are_the_texts_that_they_are_written_as():
    text = "{-1: a, 0: b, yes: c, no: d, null: e, 1.0: f, true: g, 2024-01-01: h, 0x1F: i}"
    assert list(load_yaml(text)) == ["-1", "0", "yes", "no", "null", "1.0", "true", "2024-01-01", "0x1F"]


def test_values_that_look_like_dates_times_or_ids_are_texts():
    text = "{a: 2024-01-01, b: 007, c: 12:30, d: 1_000, e: 5e-6, f: 1.5, g: -3, h: null, i: true, j: 0}"
    assert list(load_yaml(text).values()) == ["2024-01-01", "007", "12:30", 1000, 5e-6, 1.5, -3, None, True, 0]


def test_maps_may_be_merged_and_overridden_at_every_level():
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: [*b, *a], x: 3}\nd: [{e: {<<: *b}}, *b]"
    assert load_yaml(text)["c"] == {"x": 3, "y": 1}
    assert load_yaml(text)["d"] == [{"e": {"x": 2, "y": 1}}, {"x": 2, "y": 1}]
    assert list(load_yaml("a: &a {x: 1, z: 0}\nb: {y: 2, <<: *a}")["b"].items()) == [("x", 1), ("z", 0), ("y", 2)]


def test_every_configuration_of_the_project_reads_as_it_did():
    files = [*PROJECT.glob("configs/**/*.yaml"), *PROJECT.glob("workflow/*.yaml")]
    assert len(files) > 40
    for file in files:
        assert load_yaml(file.read_text()) == with_text_keys(yaml.safe_load(file.read_text())), file


def with_text_keys(value: object) -> object:
    """What PyYAML reads, with -1 and 0 as the names that they are in a `label_map`."""
    if isinstance(value, dict):
        return {str(key): with_text_keys(item) for key, item in value.items()}
    return [with_text_keys(item) for item in value] if isinstance(value, list) else value


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"b{n}: &b{n} [{','.join(['*' + (f'b{n - 1}' if n else 'a')] * 10)}]\n" for n in range(12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: duplicate key 'a'; remove one"),
        ("a: {b: 1, b: 2}", "line 1: duplicate key 'b'"),
        ("a: [{'1': x, 1: y}]", "line 1: duplicate key '1'"),
        ("a: &x {b: [*x]}", r"line 1: \*x is inside"),
        ("? [a]\n: b", "line 1: a key is a list or a map"),
        ("a: " + "[" * 100_000, "nest"),
        ("- " * 100_000 + "a", "nested more than 50 deep"),
        (BOMB, "line 5: more than 100000 values"),
        ("a: " + "x" * 10_000_001, "10000004 characters"),
        ("a: !!python/object/apply:os.system [ls]", "python/object"),
        ("a: !!int abc", "invalid literal"),
        ("a: !!timestamp 99", "NoneType"),
        ("a: *nope", "undefined alias"),
        ("a: 1\n---\nb: 2", "single document"),
        ("<<: 5", "line 1: << names something that is no map"),
        ("a: \x00", "control characters"),
        ("a: '", "quoted scalar"),
    ],
)
def test_what_is_no_configuration_is_one_line(text: str, message: str):
    began = time.perf_counter()
    with pytest.raises(YamlError, match=message) as caught:
        load_yaml(text)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - began < 20


def test_a_file_is_named(tmp_path: Path):
    for name, content, message in (
        ("list.yaml", b"[1]", r"list.yaml: holds \[1\], expected keys and values, as in configs/; fix this file"),
        ("empty.yaml", b"", "empty.yaml: holds None, expected keys and values"),
        ("latin.yaml", b"a: caf\xe9", "latin.yaml: not YAML .*utf-8.*fix this file"),
        ("twice.yaml", b"a: 1\na: 2", "twice.yaml: not YAML .line 2: duplicate key 'a'; remove one.; fix this file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            load_mapping(tmp_path / name)
    with pytest.raises(InputError, match="Is a directory"):
        load_mapping(tmp_path)


@given(st.text(alphabet="ab:-[]{}&*!'\"#|>%@ \n\t,?0.~", max_size=60))
def test_any_text_is_a_value_or_one_line(text: str):
    try:
        error, _ = "", load_yaml(text)
    except YamlError as caught:
        error = str(caught)
    assert "\n" not in error
