"""Artifacts that are not what their stage writes: refused where they are read, by whichever command reads them."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import Command
from doors import (
    BY_DYNAMICS,
    BY_EMBEDDINGS,
    CLEAN,
    EXPORT,
    NEAR_TARGET,
    REPORT,
    SELECT,
    STUDENT,
    Harm,
    assert_refused,
    assert_untouched,
    contents,
    with_column,
    with_json,
    with_manifest,
    with_rows,
    with_text,
)  # fmt: skip

NAN = math.nan
# Field of a manifest -> values of which none can be right.
FIELDS: dict[str, tuple[Any, ...]] = {
    "stage": (None, 5, [], {}, "x", "", ...),
    "rows": (None, "x", [], 2.5, 7, -1, ...),
    "fingerprint": (None, 5, [], {}, "x", ...),
    "columns": (None, 5, "x", [1], {"a": 1}, ...),
    "files": (None, 5, "x", [1], {"a": 1}, {"part-00000.parquet": "big"}, {}),
    "inputs": (
        None,
        5,
        "x",
        [1],
        {"a": 1},
        {"a": {}},
        {"a": {"paths": 1, "fingerprint": "x"}},
        {"a": {"paths": [1], "fingerprint": "x"}},
    ),
    "lineage": (None, 5, "x", [1], {"a": 1}, {"pool": None}, {}),
    "config": (None, 5, "x", [1]),
    "facts": (None, 5, "x", [1], {"labels": 3}, {"task": {}}, {"metrics": []}),
    "command": (None, 5, [], {}),
    "versions": (None, 5, "x", [1], {"a": 1}),
    "written": (None, 5, [], {}),
}


def manifests() -> Iterator[Any]:
    for field, values in FIELDS.items():
        for value in values:
            shown = "missing" if value is ... else repr(value)
            yield pytest.param(with_manifest("pseudolabel", **{field: value}), id=f"manifest {field} {shown}")


TEXTS = {
    "empty": "", "cut": '{"stage": "pseudo', "list": "[]", "null": "null", "number": "5", "not utf-8": b"\xff\xfe",
    "nan": '{"rows": NaN}', "deep": "[" * 20_000, "NUL": "\0", "duplicate keys": '{"rows": 1, "rows": 2}',
    "a number of 5,000 digits": '{"rows": ' + "9" * 5000 + "}",
}  # fmt: skip

PROBS: dict[str, Any] = {
    "do not sum to 1": lambda p: [*p[:-1], [0.5, 0.2, 0.1]],
    "nan": lambda p: [*p[:-1], [NAN, 0.5, 0.5]],
    "inf": lambda p: [*p[:-1], [math.inf, 0.0, 0.0]],
    "negative": lambda p: [*p[:-1], [-0.5, 1.0, 0.5]],
    "null": lambda p: [*p[:-1], None],
    "a null inside": lambda p: [*p[:-1], [None, 0.5, 0.5]],
    "ragged": lambda p: [[0.5, 0.5], [0.25, 0.25, 0.25, 0.25], *p[2:]],
    "too few": lambda p: [[0.5, 0.5] for _ in p],
    "too many": lambda p: [[0.25] * 4 for _ in p],
    "empty lists": lambda p: pa.array([[] for _ in p], pa.list_(pa.float64())),
    "texts": lambda p: ["x" for _ in p],
    "lists of texts": lambda p: [["a", "b", "c"] for _ in p],
    "nested": lambda p: [[[x] for x in one] for one in p],
    "numbers": lambda p: [0.5 for _ in p],
    "missing": lambda _: None,
}  # fmt: skip
IDS: dict[str, Any] = {
    "duplicate": lambda i: [i[1], *i[1:]],
    "of another row": lambda i: ["other", *i[1:]],
    "null": lambda i: [None, *i[1:]],
    "numbers": lambda i: list(range(len(i))),
    "lists": lambda i: [[one] for one in i],
    "missing": lambda _: None,
}  # fmt: skip
EMBEDDINGS: dict[str, Any] = {
    "zeros": lambda e: [[0.0] * len(e[0]), *e[1:]],
    "nan": lambda e: [[NAN] * len(e[0]), *e[1:]],
    "inf": lambda e: [[math.inf] * len(e[0]), *e[1:]],
    "overflow": lambda e: [[1e300] * len(e[0]), *e[1:]],
    "ragged": lambda e: [e[0][:-1], *e[1:]],
    "ragged, same total": lambda e: [e[0][:-1], [*e[1], 1.0], *e[2:]],
    "null": lambda e: [None, *e[1:]],
    "texts": lambda e: [["a"] for _ in e],
    "missing": lambda _: None,
}  # fmt: skip


def pseudolabels() -> Iterator[Any]:
    for name, text in TEXTS.items():
        yield pytest.param(with_text("pseudolabel/_manifest.json", text), id=f"manifest is {name}")
    for name, values in PROBS.items():
        yield pytest.param(with_column("pseudolabel", "probs", values), id=f"probs {name}")
    for name, values in IDS.items():
        yield pytest.param(with_column("pseudolabel", "id", values), id=f"ids {name}")
    yield pytest.param(with_rows("pseudolabel", lambda table: table.slice(1)), id="a row is missing")
    yield pytest.param(with_rows("pseudolabel", lambda table: table.slice(0, 0)), id="no rows")
    yield pytest.param(
        with_rows("pseudolabel", lambda table: pa.concat_tables([table, table.slice(0, 1)])), id="a row too many"
    )
    yield pytest.param(
        with_manifest("pseudolabel", facts__labels=["positive", "neutral", "negative"]), id="labels in another order"
    )
    yield pytest.param(with_manifest("pseudolabel", facts__labels=["a", "b", "c"]), id="labels of another task")
    yield pytest.param(with_text("pseudolabel/part-00000.parquet", b"PAR1"), id="shard is cut")
    yield pytest.param(with_text("pseudolabel/part-00000.parquet", b""), id="shard is empty")
    yield pytest.param(lambda folder: (folder / "pseudolabel/part-00000.parquet").unlink(), id="shard is missing")
    yield pytest.param(_flipped, id="a byte of a shard is another")


def _flipped(folder: Path) -> None:
    file = folder / "pseudolabel/part-00000.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(bytes(content))


def evidence() -> Iterator[Any]:
    for name, values in EMBEDDINGS.items():
        yield pytest.param(with_column("embed", "embedding", values), BY_EMBEDDINGS, id=f"embedding {name}")
    yield pytest.param(
        with_column("wanted", "embedding", lambda e: [one[:-1] for one in e]), NEAR_TARGET, id="target of another width"
    )
    yield pytest.param(with_column("wanted", "text", lambda _: None), NEAR_TARGET, id="target without its text")
    yield pytest.param(with_rows("wanted", lambda table: table.slice(0, 0)), NEAR_TARGET, id="target without rows")


def predictions() -> Iterator[Any]:
    for name, values in PROBS.items():
        yield pytest.param(with_column("test", "probs", values), REPORT, id=f"test: probs {name}")
    for column in ("id", "target", "label", "prediction"):
        if column != "prediction":
            yield pytest.param(with_column("test", column, lambda _: None), REPORT, id=f"test: no {column}")
            yield pytest.param(
                with_column("test", column, lambda v: [None, *v[1:]]), REPORT, id=f"test: {column} is null"
            )
    yield pytest.param(with_column("test", "label", lambda v: ["mixed", *v[1:]]), REPORT, id="test: another label")
    yield pytest.param(with_column("test", "id", lambda v: [v[1], *v[1:]]), REPORT, id="test: duplicate id")
    yield pytest.param(with_rows("test", lambda table: table.slice(0, 0)), REPORT, id="test: no rows")
    for fact, values in {
        "task": (..., None, [], {"name": "x"}, {"name": "x", "columns": ["text"], "labels": ["a", "b", "c"]}),
        "method": (None, [], 5, {}),
        "setting": (None, [], 5),
        "seed": ([], {}, True),
        "dev": (None, [], "x", {"dev/accuracy": "high"}),
        "gold_counts": ([], "x", {"negative": "many"}, {"negative": -3}),
        "labels": (..., 5, ["a"]),
        "metrics": METRICS,
        "leakage": tuple(
            {"similarity": 0.5, "sets": [], "targets": {"en": {"gold": {"rows": 2, "near": 1, "pairs": [pair]}}}}
            for pair in ([], ["a"], ["a", "b", "c"])
        ),
    }.items():
        for value in values:
            shown = "missing" if value is ... else repr(value)
            yield pytest.param(with_manifest("test", **{f"facts__{fact}": value}), REPORT, id=f"test: {fact} {shown}")


# Metrics of a test, in the form that they have, that are not those of its rows.
METRICS: tuple[Any, ...] = (
    {"hi": {"accuracy": 0.5, "macro_f1": 0.5}}, {"en": {"accuracy": 7.5, "macro_f1": 0.5}},
    {"en": {"accuracy": -0.5, "macro_f1": 0.5}}, {"en": {"accuracy": 0.99, "macro_f1": 0.99, "rows": 23}},
)  # fmt: skip


def exports() -> Iterator[Any]:
    for value in (
        ...,
        None,
        [],
        {},
        {"en": []},
        {"en": {}},
        {"en": {"accuracy": "high"}},
        {"en": {"accuracy": NAN}},
        {"en": {"x": 1}},
        *METRICS,
    ):
        shown = "missing" if value is ... else repr(value)
        yield pytest.param(with_manifest("test", facts__metrics=value), EXPORT, id=f"export: metrics {shown}")
    for key, values in {
        "labels": (5, "x", [1, 2]), "dev": ([], "x", {"dev/accuracy": "high"}), "inputs": ([], {"gold": 5}, {"gold": {}}),
        "task": ([], {}, "x"), "method": (5, [], "", " "), "gold_counts": ([], {"negative": "x"}), "base": (5, []),
        "step": ("x", [], 2.5), "max_length": ("x", 2.5), "target_language": ("hi",), "temperature": ("warm",),
    }.items():  # fmt: skip
        for value in values:
            harm = with_json("teacher/model/labelbridge.json", **{key: value})
            yield pytest.param(harm, (*EXPORT, "--test=null"), id=f"export: {key} {value!r}")
    for name, text in TEXTS.items():
        harm = with_text("teacher/model/labelbridge.json", text)
        yield pytest.param(harm, (*EXPORT, "--test=null"), id=f"export: labelbridge.json is {name}")


def others() -> Iterator[Any]:
    dynamics = "teacher/dynamics"
    yield pytest.param(with_manifest(dynamics, facts__labels=...), BY_DYNAMICS, id="dynamics: no labels")
    yield pytest.param(with_manifest(dynamics, facts__labels=["a", "b"]), BY_DYNAMICS, id="dynamics: other labels")
    yield pytest.param(
        with_manifest(dynamics, facts__labels=["positive", "neutral", "negative"]), BY_DYNAMICS,
        id="dynamics: labels in another order",
    )  # fmt: skip
    yield pytest.param(
        lambda folder: (folder / dynamics / "epoch-00001.parquet").unlink(),
        BY_DYNAMICS,
        id="dynamics: an epoch is lost",
    )
    yield pytest.param(with_text(f"{dynamics}/epoch-00001.parquet", b"x"), BY_DYNAMICS, id="dynamics: an epoch is torn")
    yield pytest.param(with_text(f"{dynamics}/_ids/ids.parquet", b""), BY_DYNAMICS, id="dynamics: ids are empty")
    yield pytest.param(
        lambda folder: (folder / "select/part-00000.parquet").unlink(), STUDENT, id="selection: shard is missing"
    )
    yield pytest.param(with_column("select", "probs", lambda _: None), STUDENT, id="selection: no probs")
    yield pytest.param(
        with_column("select", "probs", lambda p: [[0.9, 0.9, 0.9] for _ in p]), STUDENT, id="selection: probs"
    )
    yield pytest.param(with_column("select", "text", lambda t: ["", *t[1:]]), STUDENT, id="selection: an empty text")
    yield pytest.param(with_column("raw", "text", lambda _: None), CLEAN, id="raw: no text")
    yield pytest.param(with_column("raw", "prompt_label", lambda p: ["mixed", *p[1:]]), CLEAN, id="raw: another label")
    yield pytest.param(with_column("raw", "id", lambda i: [i[1], *i[1:]]), CLEAN, id="raw: duplicate id")
    yield pytest.param(with_rows("raw", lambda table: table.slice(0, 0)), CLEAN, id="raw: no rows")
    times = with_column("select", "class", lambda one: pa.array([2**62] * len(one), pa.timestamp("us")))
    yield pytest.param(times, ("peek", "select"), id="peek: a year 300,000")
    for name in ("select", "teacher", "report"):
        words = (*SELECT, f"--pseudolabels={name}")
        yield pytest.param(lambda _: None, words, id=f"pseudolabels are {name}")
    for word in ("nowhere", "data", "data/pool.jsonl", "", ".", "/dev/null", "teacher/model"):
        yield pytest.param(lambda _: None, (*SELECT, f"--pseudolabels={word}"), id=f"pseudolabels are {word!r}")
        yield pytest.param(lambda _: None, ("peek", word), id=f"peek {word!r}")
        yield pytest.param(lambda _: None, (*REPORT, f'--runs=["{word}"]'), id=f"report {word!r}")


@pytest.mark.slow
@pytest.mark.parametrize("harm", [*manifests(), *pseudolabels()])
def test_pseudolabels(world: Path, cli: Command, harm: Harm):
    harm(world)
    before = contents(world)
    assert_refused(cli(*SELECT), "pseudolabel")
    assert_untouched(world, before)


@pytest.mark.slow
@pytest.mark.parametrize(("harm", "words"), [*evidence(), *predictions(), *exports(), *others()])
def test_artifact(world: Path, cli: Command, harm: Harm, words: tuple[str, ...]):
    harm(world)
    before = contents(world)
    assert_refused(cli(*words))
    assert_untouched(world, before)
