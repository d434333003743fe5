"""Samples for annotators and the answers that come back, and folders for the Hub."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from conftest import Command
from doors import (
    EXPORT,
    OUT,
    Harm,
    assert_refused,
    assert_untouched,
    contents,
    nothing,
    with_column,
    with_json,
    with_manifest,
    with_rows,
    with_text,
)  # fmt: skip
from safetensors.torch import load_file, save_file

DRAW = ("annotate", "--config=annotate.yaml", "--selection=select", "--rows=4", f"--out={OUT}")
SETTINGS = (
    "--rows=0", "--rows=-1", "--rows=x", "--rows=null", "--above=2", "--above=.nan", "--above=1", "--above=x",
    "--annotators=0", "--annotators=1000000000", "--annotators=x", "--seed=null", "--seed=x", "--selection=nowhere",
    "--selection=data/pool.jsonl", "--selection=null", "--selection=", "--selection=report", "--selection=teacher/model",
    "--selection=pseudolabel", "--selection=test", "--out=data/pool.jsonl", "--out=select",
    "--task=nothing", '--task={"name": "x", "columns": ["text"], "labels": ["a", "b"]}',
    '--task={"name": "x", "columns": ["premise", "hypothesis"], "labels": ["negative", "neutral", "positive"]}',
)  # fmt: skip
SELECTIONS: dict[str, Harm] = {
    "class of another task": with_column("select", "class", lambda one: ["mixed"] * len(one)),
    "class null": with_column("select", "class", lambda one: [None] * len(one)),
    "class a number": with_column("select", "class", lambda one: [0] * len(one)),
    "no text": with_column("select", "text", lambda _: None),
    "text null": with_column("select", "text", lambda one: [None, *one[1:]]),
    "text a number": with_column("select", "text", lambda one: [5] * len(one)),
    "no rows": with_rows("select", lambda table: table.slice(0, 0)),
    "duplicate id": with_column("select", "id", lambda one: [one[1], *one[1:]]),
}  # fmt: skip
# The file of an annotator; ID stands for the id of a row of the sample.
ANSWERS: dict[str, tuple[str, str | bytes]] = {
    "empty": ("a.csv", ""),
    "a header alone": ("a.csv", "id,text,label\n"),
    "no label": ("a.csv", "id,text\nID,a\n"),
    "no id": ("a.csv", "text,label\na,positive\n"),
    "no answer": ("a.csv", "id,text,label\nID,a,\n"),
    "another label": ("a.csv", "id,text,label\nID,a,good\n"),
    "a number": ("a.csv", "id,text,label\nID,a,2\n"),
    "a row of another sample": ("a.csv", "id,text,label\nother,a,positive\n"),
    "a row twice": ("a.csv", "id,text,label\nID,a,positive\nID,a,positive\n"),
    "ragged": ("a.csv", "id,text,label\nID,a,positive,more\n"),
    "semicolons": ("a.csv", "id;text;label\nID;a;positive\n"),
    "an open quote": ("a.csv", 'id,text,label\nID,"a,positive\n'),
    "not UTF-8": ("a.csv", "id,text,label\nID,é,positive\n".encode("latin-1")),
    "a spreadsheet": ("a.xlsx", b"PK\x03\x04"),
    "the page itself": ("a.html", "<html></html>"),
    "JSON cut": ("a.json", '[{"id": "ID"'),
    "JSON of a map": ("a.json", '{"ID": "positive"}'),
    "labels as lists": ("a.jsonl", '{"id": "ID", "label": ["positive"]}\n'),
    "ids null": ("a.jsonl", '{"id": null, "label": "positive"}\n'),
    "a folder": ("a.csv/x", "x"),
    "UTF-16": ("a.csv", "id,text,label\nID,a,positive\n".encode("utf-16")),
    "a duplicate key": ("a.jsonl", '{"id": "ID", "label": "positive", "label": "negative"}\n'),
    "one row with two labels": ("a.csv", "id,text,label\nID,a,positive\nID,a,negative\n"),
    "a label of true": ("a.jsonl", '{"id": "ID", "label": true}\n'),
    "a label of half an emoji": ("a.jsonl", '{"id": "ID", "label": "\\ud83d"}\n'),
    "an id of a map": ("a.jsonl", '{"id": {"a": 1}, "label": "positive"}\n'),
    "the text of another row": ("a.csv", "id,text,label\nID,OTHER,positive\n"),
}
ANSWER_WORDS = ("--answers=[]", "--answers=[nowhere.csv]", "--answers=5", "--answers=[null]", "--answers=nowhere.csv")


@pytest.mark.parametrize("word", SETTINGS)
def test_a_sample_that_cannot_be_drawn(world: Path, cli: Command, word: str):
    before = contents(world)
    assert_refused(cli(*DRAW, word))
    assert_untouched(world, before)


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_selection_that_nobody_can_label(world: Path, cli: Command, name: str):
    SELECTIONS[name](world)
    before = contents(world)
    assert_refused(cli(*DRAW, "--above=0.01"), "select")
    assert_untouched(world, before)


def drawn(world: Path, cli: Command) -> str:
    """Draw a sample; the id of one of its rows."""
    assert cli(*DRAW).code == 0
    return Path(OUT, "sheet-1.csv").read_text().splitlines()[1].split(",")[0]


def other_text() -> str:
    """The text of another row."""
    return Path(OUT, "sheet-1.csv").read_text().splitlines()[2].split(",")[1]


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_cannot_be_read(world: Path, cli: Command, name: str):
    row = drawn(world, cli)
    file, content = ANSWERS[name]
    if isinstance(content, str):
        content = content.replace("ID", row).replace("OTHER", other_text())
    with_text(file, content.replace(b"ID", row.encode()) if isinstance(content, bytes) else content)(world)
    before = contents(world)
    assert_refused(cli(*DRAW, f"--answers=[{file.split('/')[0]}]"), "a[.]")
    assert_untouched(world, before)


@pytest.mark.parametrize("word", ANSWER_WORDS)
def test_answers_that_are_not_there(world: Path, cli: Command, word: str):
    drawn(world, cli)
    before = contents(world)
    assert_refused(cli(*DRAW, word))
    assert_untouched(world, before)


def test_two_annotators_of_one_name_and_a_sample_that_is_not_there(world: Path, cli: Command):
    assert_refused(cli(*DRAW, "--answers=[a.csv]"), "o")
    row = drawn(world, cli)
    for folder in ("one", "two"):
        with_text(f"{folder}/a.csv", f"id,text,label\n{row},a,positive\n")(world)
    assert_refused(cli(*DRAW, "--answers=[one/a.csv, two/a.csv]"), "two files are called 'a'")


# Files of annotators, and what is said of their names.
NAMES: dict[str, tuple[tuple[str, ...], str]] = {
    "a name in two cases": (("one/Ann.csv", "one/ann.csv"), "two files are called 'Ann'"),
    "a name in two normal forms": (("one/\u00e9.csv", "one/e\u0301.csv"), "two files are called"),
    "a name that shows nothing": (("\u200b.csv",), "expected a name for its annotator"),
    "a name of one of the selection's columns": (
        ("mine.csv",),
        "'label_mine' the selection has already; rename the file",
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_annotators_whose_names_cannot_be_told_apart(world: Path, cli: Command, name: str):
    with_rows("select", lambda table: table.append_column("label_mine", pa.array(["x"] * table.num_rows)))(world)
    row = drawn(world, cli)
    files, said = NAMES[name]
    for file in files:
        with_text(file, f"id,text,label\n{row},a,positive\n")(world)
    before = contents(world)
    assert_refused(cli(*DRAW, f"--answers=[{', '.join(files)}]"), said)
    assert_untouched(world, before)


@pytest.mark.parametrize("content", [None, "mine", "id,text,label\na,b,positive\n", "label\n"])
def test_a_sheet_with_labels_is_not_replaced(world: Path, cli: Command, content: str | None):
    """Annotators may fill in the sheets where they are."""
    drawn(world, cli)
    assert cli(*DRAW, "--seed=5", "--overwrite=true").code == 0  # nobody has labelled anything
    sheet = Path(OUT, "sheet-2.csv")
    sheet.write_text(sheet.read_text().replace(",\n", ",positive\n", 1) if content is None else content)
    before = contents(world)
    assert_refused(cli(*DRAW, "--overwrite=true"), "o/sheet-2.csv: an annotator's work, and would be replaced; move it")
    assert_untouched(world, before)


@pytest.mark.parametrize("name", ["sheet-1.csv", "annotate.html", "instructions.md"])
def test_a_file_in_the_place_of_a_sample_stays(world: Path, cli: Command, name: str):
    with_text(f"{OUT}/{name}", "mine")(world)
    before = contents(world)
    assert_refused(cli(*DRAW), f"o/{name}: .*; move it")
    assert_untouched(world, before)


def test_a_label_called_unclear_is_refused(world: Path, cli: Command):
    task = '{"name": "x", "columns": ["text"], "labels": ["positive", "Unclear"]}'
    assert_refused(cli(*DRAW, f"--task={task}"), "a label is called 'unclear'")


MODEL = "teacher/model"


def nan_weights(folder: Path) -> None:
    file = folder / MODEL / "model.safetensors"
    weights = load_file(file)
    save_file({name: torch.full_like(weight, float("nan")) for name, weight in weights.items()}, file, {"format": "pt"})


EXPORTS: dict[str, tuple[Harm, tuple[str, ...]]] = {
    "a model that is not there": (nothing, ("--model=nowhere",)),
    "a file for a model": (nothing, ("--model=data/pool.jsonl",)),
    "a folder that is no model": (nothing, ("--model=data",)),
    "a model of others": (lambda folder: (folder / MODEL / "labelbridge.json").unlink(), ()),
    "a link to nothing in it": (lambda folder: (folder / MODEL / "gone").symlink_to("nowhere"), ()),
    "a test that is none": (nothing, ("--test=select",)),
    "a test that is not there": (nothing, ("--test=nowhere",)),
    "a test of another model": (
        with_json("test/_manifest.json", lineage={"model": "sha256:0"}), ("--test=test",),
    ),
    "an average of one": (nothing, ("--average=[teacher]", "--test=null")),
    "an average of one, twice": (nothing, ("--average=[teacher, teacher]", "--test=null")),
    "an average of nothing": (nothing, ("--average=[]", "--test=null")),
    "an average with a test": (nothing, ("--average=[teacher]",)),
    "an average of what is no run": (nothing, ("--average=[teacher, data]", "--test=null")),
    "an unknown prior": (nothing, ("--prior=halved", "--test=null")),
    "a prior of other labels": (nothing, ('--prior={"a": 0.5, "b": 0.5}', "--test=null")),
    "a prior of one label": (nothing, ('--prior={"negative": 1}', "--test=null")),
    "a negative prior": (nothing, ('--prior={"negative": -1, "neutral": 1, "positive": 1}', "--test=null")),
    "a prior of nan": (nothing, ('--prior={"negative": .nan, "neutral": 1, "positive": 1}', "--test=null")),
    "a prior with a test": (nothing, ("--prior=uniform",)),
    "an estimate without a target": (nothing, ("--prior=em", "--test=null")),
    "an estimate on what is no target": (nothing, ("--prior=em", "--target=select", "--test=null")),
    "a target without an estimate": (nothing, ("--target=pseudolabel", "--test=null")),
    "weights of nan": (nan_weights, ()),
    "weights cut": (with_text(f"{MODEL}/model.safetensors", b"\x10"), ("--test=null",)),
    "weights cut, and a prior": (with_text(f"{MODEL}/model.safetensors", b"\x10"), ("--prior=uniform", "--test=null")),
    "something of the user's in its place": (with_text("o/mine.txt", "mine"), ("--overwrite=true",)),
    "a file in its place": (with_text("o", "mine"), ("--overwrite=true",)),
    "the model itself in its place": (nothing, (f"--out={MODEL}", "--overwrite=true")),
    "a folder above the model": (nothing, ("--out=teacher", "--overwrite=true")),
    "a folder below the model": (nothing, (f"--out={MODEL}/export",)),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_a_model_that_cannot_be_exported(world: Path, cli: Command, name: str):
    harm, words = EXPORTS[name]
    harm(world)
    before = contents(world)
    assert_refused(cli(*EXPORT, *words))
    assert_untouched(world, before)


TASK_FACTS = {"name": "x", "columns": ["text"], "labels": ["negative", "neutral", "positive"]}
# What is wrong with a selection that is published -> what is said of it.
PUBLISHED: dict[str, tuple[Harm, str]] = {
    "text null": (with_column("select", "text", lambda one: [None, *one[1:]]), "select row 0: text is None"),
    "text a number": (with_column("select", "text", lambda one: [5] * len(one)), "select row 0: text is 5"),
    "text of control characters": (with_column("select", "text", lambda one: ["\0", *one[1:]]), "select row 0: text is"),
    "text bytes": (with_column("select", "text", lambda one: [b"\xff"] * len(one)), "select row 0: text is"),
    "duplicate id": (with_column("select", "id", lambda one: [one[1], *one[1:]]), "select: duplicate id"),
    "id blank": (with_column("select", "id", lambda one: [" ", *one[1:]]), "select row 0: id is ' '"),
    "id a list": (with_column("select", "id", lambda one: [[name] for name in one]), "select row 0: id is"),
    "lang a number": (with_column("select", "lang", lambda one: [5] * len(one)), "select row 0: lang is 5"),
    "class of another task": (with_column("select", "class", lambda one: ["x"] * len(one)), "select row 0: class is 'x'"),
    "class null": (with_column("select", "class", lambda one: [None] * len(one)), "select row 0: class is None"),
    "class a list": (with_column("select", "class", lambda one: [[name] for name in one]), "select row 0: class is"),
    "a task that is a number": (with_manifest("select", config={"task": 5}), "config.task is 5, expected a map"),
    "a task without labels": (with_manifest("select", config={"task": {**TASK_FACTS, "labels": []}}), "config.task x: labels"),
    "a task with another key": (with_manifest("select", config={"task": {**TASK_FACTS, "label": 5}}), "config.task.label is not known"),
    "no task": (with_manifest("select", config={}), "its manifest names no task"),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_selection_that_cannot_be_published(world: Path, cli: Command, name: str):
    harm, said = PUBLISHED[name]
    harm(world)
    before = contents(world)
    assert_refused(cli("export", "--selection=select", f"--out={OUT}"), said)
    assert_untouched(world, before)


def test_a_selection_whose_domains_are_no_texts_is_published(world: Path, cli: Command):
    with_rows("select", lambda table: table.append_column("domain", pa.array([[1]] * table.num_rows)))(world)
    assert cli("export", "--selection=select", f"--out={OUT}").code == 0
    assert "[1]" in Path(OUT, "README.md").read_text().replace("\\", "")


def test_an_export_with_a_file_of_the_users_in_it_stays(world: Path, cli: Command):
    assert cli(*EXPORT).code == 0
    mine = Path(OUT, "notes.md")
    mine.write_text("mine")
    before = contents(world)
    assert_refused(cli(*EXPORT, "--overwrite=true"), "no export wrote it; move it")
    assert_untouched(world, before)
    facts = json.loads(Path(OUT, "labelbridge.json").read_text())
    assert facts["labels"] == ["negative", "neutral", "positive"]
