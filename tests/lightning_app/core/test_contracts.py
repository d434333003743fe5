"""Manifests and rows are as they are declared, or one line says what is not."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelbridge.lightning_app.core import artifacts, contracts
from labelbridge.lightning_app.core.documents import checked, known_key, read_json
from labelbridge.lightning_app.core.errors import InputError

LABELS = ["negative", "positive"]
TASK = {"name": "s", "columns": ["text"], "labels": LABELS}


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    table = pa.table({"id": ["a", "b"], "prediction": LABELS, "probs": [[0.9, 0.1], [0.2, 0.8]]})
    facts = {"labels": LABELS, "task": TASK, "seed": 1}
    artifacts.write(tmp_path / "run", table, stage="pseudolabel", facts=facts, lineage={"pool": "sha256:0"})
    return tmp_path / "run"


def change(folder: Path, **changes: Any) -> None:
    """Change a manifest's entries; a dotted name is that of a fact."""
    file = folder / artifacts.MANIFEST
    content = json.loads(file.read_text())
    for name, value in changes.items():
        if value is ...:
            del content[name]
        else:
            content[name] = value
    file.write_text(json.dumps(content))


def test_the_order_of_labels_is_part_of_the_fingerprint(scored: Path, tmp_path: Path):
    """Swapped by hand, every probability would be another class's."""
    facts = artifacts.read(scored, "pseudolabel").manifest.facts
    swapped = {**facts, "labels": LABELS[::-1], "task": {**TASK, "labels": LABELS[::-1]}}
    change(scored, facts=swapped)
    with pytest.raises(InputError, match="do not match the manifest"):
        artifacts.read(scored)
    change(scored, facts={**facts, "labels": LABELS[::-1]})
    with pytest.raises(InputError, match="facts.labels is .*expected the task's labels"):
        artifacts.read_manifest(scored)
    table = pa.table({"id": ["a"], "probs": [[0.9, 0.1]]})
    prints = {
        artifacts.write(tmp_path / str(n), table, stage="pseudolabel", facts={"labels": labels}).fingerprint
        for n, labels in enumerate((LABELS, LABELS[::-1], ["negativepositive", ""]))
    }
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": ...}, "stage is missing"),
        ({"fingerprint": 5}, "fingerprint is 5, expected a text"),
        ({"rows": "2"}, "rows is '2', expected a whole number"),
        ({"columns": []}, r"columns is \[\], expected"),
        ({"files": {"part-00000.parquet": "big"}}, "files.part-00000.parquet is 'big'"),
        ({"inputs": ["a"]}, r"inputs is \['a'\]"),
        ({"inputs": {"pool": "x"}}, "inputs.pool is 'x'"),
        ({"inputs": {"pool": {"paths": 5}}}, "inputs.pool.paths is 5"),
        ({"inputs": {"pool": {"paths": ["x"]}}}, "inputs.pool.fingerprint is missing"),
        (
            {"inputs": {"pool": {"paths": ["x"], "fingerprint": "", "artifacts": []}}},
            "inputs.pool has not one of `artifacts` for each of `paths`",
        ),
        ({"lineage": None}, "lineage is None"),
        ({"lineage": {"pool": 1}}, "lineage.pool is 1"),
        ({"facts": []}, r"facts is \[\]"),
        ({"facts": {"labels": "ab"}}, "facts: labels is 'ab'"),
        ({"facts": {"labels": [1, 2]}}, "facts: labels.0 is 1"),
        ({"facts": {"task": {"name": "s"}}}, "facts: task.columns is missing"),
        ({"facts": {"task": {**TASK, "labels": ["a"]}}}, "two or more different names"),
        ({"facts": {"dev": {"dev/accuracy": "high"}}}, "facts: dev.dev/accuracy is 'high'"),
        ({"facts": {"method": ["T"]}}, r"facts: method is \['T'\]"),
        ({"facts": {"gold_counts": {"a": 1.5}}}, "facts: gold_counts.a is 1.5"),
    ],
)
def test_a_manifest_that_is_not_as_declared(scored: Path, changes: dict[str, Any], message: str):
    change(scored, **changes)
    with pytest.raises(InputError, match=message) as caught:
        artifacts.read(scored, "pseudolabel")
    assert "\n" not in str(caught.value)
    assert str(scored) in str(caught.value)
    assert artifacts.is_whole(scored) is False


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"null", b'"text"', b"\xff", b"[" * 100_000, b'{"rows": NaN}', b"5", b'{"stage": "a"}'],
)
def test_a_manifest_that_is_none(scored: Path, content: bytes):
    (scored / artifacts.MANIFEST).write_bytes(content)
    with pytest.raises(InputError, match=artifacts.MANIFEST) as caught:
        artifacts.read(scored)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(
        [*artifacts.Manifest.__dataclass_fields__, "facts.labels", "facts.task", "facts.seed", "facts.dev"]
    ),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
)
def test_any_value_in_a_manifest_is_taken_or_refused_in_one_line(scored: Path, name: str, value: object):
    kept = (scored / artifacts.MANIFEST).read_bytes()
    entry, _, fact = name.partition(".")
    content = json.loads(kept)
    content[entry] = {**content["facts"], fact: value} if fact else value
    (scored / artifacts.MANIFEST).write_text(json.dumps(content))
    refusal = ""
    try:
        artifacts.check_fresh(scored, artifacts.read(scored, "pseudolabel").manifest)
    except InputError as error:
        refusal = str(error)
    (scored / artifacts.MANIFEST).write_bytes(kept)
    assert "\n" not in refusal


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("probs", None, "no column 'probs' among"),
        ("probs", ["a", "b"], "probs is of type string, expected a list of numbers"),
        ("probs", [["a"], ["b"]], "probs is of type .*string.*, expected a list of numbers"),
        ("probs", [[[0.5, 0.5]], [[0.5, 0.5]]], "expected a list of numbers"),
        ("probs", [[0.5, 0.5], [1.0]], r"row 1: probs is \[1.0\], expected 2 numbers"),
        ("probs", [[0.5, 0.5, 0.0, 1.0], []], "row 0: .*expected 2 numbers"),
        ("probs", [[0.5, 0.5], None], "row 1: probs is None, expected 2 numbers"),
        ("probs", [[0.5, 0.5], [None, 1.0]], "row 1: .*expected finite numbers"),
        ("probs", [[0.5, 0.5], [float("inf"), 0.0]], "row 1: .*expected finite numbers"),
        ("probs", [[0.5, 0.5], [0.9, 0.2]], "row 1: probs sum to 1.1, expected 1"),
        ("probs", [[0.5, 0.5], [-0.5, 1.5]], "row 1: a prob is negative"),
        ("id", [None, "b"], "row 0: id is null, expected a text"),
        ("id", [1, 2], "id is of type int64, expected text"),
    ],
)
def test_rows_that_are_not_as_declared(
    scored: Path, column: str, values: Any, message: str, monkeypatch: pytest.MonkeyPatch
):
    read = artifacts.read(scored)
    place = read.table.column_names.index(column)
    table = read.table.remove_column(place)
    table = table if values is None else table.add_column(place, column, pa.array(values))
    monkeypatch.setattr(artifacts, "check_vectors", lambda *_: None)
    artifacts.write(scored, table, stage="pseudolabel", facts=read.manifest.facts)
    monkeypatch.undo()
    with pytest.raises(InputError, match=message) as caught:
        artifacts.read(scored, "pseudolabel")
    assert "\n" not in str(caught.value)


def test_vectors_of_every_kind_of_list_are_read():
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float64(), 2), pa.list_(pa.int64())):
        table = pa.table({"v": pa.array([[1, 2], [3, 4]], kind)})
        assert np.array_equal(contracts.vectors(table.slice(1), "v", "x", "y"), [[3, 4]])
    empty = pa.table({"v": pa.array([], pa.list_(pa.float32()))})
    assert contracts.vectors(empty, "v", "x", "y").shape[0] == 0


def test_rows_are_joined_by_id():
    assert contracts.positions(["b", "a"], ["a", "b"], "x", "y").tolist() == [1, 0]
    assert contracts.positions(["b", "a", "c"], ["c"], "x", "y", exactly=False).tolist() == [2]
    with pytest.raises(InputError, match="^x: no row for id 'c'; y$"):
        contracts.positions(["a", "b"], ["a", "c"], "x", "y")
    for ids in (["a", "b", "c"], ["a", "b", "b"]):
        with pytest.raises(InputError, match="^x: 3 rows, expected one for each of 2 ids; y$"):
            contracts.positions(ids, ["a", "b"], "x", "y")


def test_a_label_that_is_not_the_tasks_is_named_with_its_row():
    table = pa.table({"label": ["a", "b", None]})
    contracts.check_labels(table.slice(0, 2), "label", ["a", "b"], "x", "y")
    with pytest.raises(InputError, match=r"^x row 2: label is None, expected one of \['a', 'b'\]; y$"):
        contracts.check_labels(table, "label", ["a", "b"], "x", "y")


def test_two_columns_of_one_name_are_not_written(scored: Path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["id", "id"])
    before = sorted(scored.iterdir())
    with pytest.raises(InputError, match="duplicate column 'id'"):
        artifacts.write(scored, table, stage="select")
    assert sorted(scored.iterdir()) == before


def test_json_that_cannot_be_read_names_the_file(tmp_path: Path):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match="folder.json: Is a directory"):
        read_json(tmp_path / "folder.json")
    with pytest.raises(InputError, match="no.json: No such file"):
        read_json(tmp_path / "no.json")


@dataclass(frozen=True)
class Inner:
    """A part of a file, of which some keys are declared."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    weight: int = 0


@pytest.mark.parametrize(
    ("declared", "value", "said"),
    [
        (Inner, {"wieght": 1}, "wieght is not known, did you mean 'weight'?"),
        (dict[str, list[Inner]], {"a": [{}, {"x": 1}]}, "a.1.x is not known, expected one of weight"),
        (dict[Annotated[str, known_key(["cat", "dog"])], int], {"dgo": 1}, "dgo is not known, did you mean 'dog'?"),
        (
            dict[Annotated[str, known_key(["cat"], dotted=True)], int],
            {"cat.a": 1, "cta.b": 1},
            "cta.b is not known, did",
        ),
        (dict[str, Inner], {"[a]": {"weight": "1"}}, "[a].weight is '1', expected a whole number"),
    ],
)
def test_an_unknown_key_is_named_with_the_closest_one(declared: Any, value: Any, said: str):
    with pytest.raises(InputError) as caught:
        checked(declared, value, "x", "fix it")
    assert str(caught.value).startswith(f"x: {said}")


def test_no_text_passes_for_a_number():
    assert checked(dict[str, int], {"a": 1}, "x") == {"a": 1}
    for wrong in ({"a": "1"}, {"a": 1.0}, {"a": True}, ["a"], None):
        with pytest.raises(InputError, match="^x: "):
            checked(dict[str, int], wrong, "x")
