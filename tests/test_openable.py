"""Other tools open every kind of artifact as it lies on the disk."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, Stages, commands_in, sentence, write_files, write_jsonl

import labelbridge
from labelbridge.lightning_app.dynamics.store import read_dynamics

KINDS = (
    "clean", "clean/_rejected", "pseudolabel", "embed", "select", "test", "translate", "translate/_rejected",
    "report/cells", "teacher/dynamics",
)  # fmt: skip
WITH_LOGS = ("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=true")


def raw(count: int) -> list[dict[str, Any]]:
    """Raw generations, of which some are rejected."""
    rng = random.Random(7)
    rows = [{"text": f"{sentence(LABELS[n % 3], rng)} {n}", "prompt_label": LABELS[n % 3]} for n in range(count)]
    return [*rows, {"text": "", "prompt_label": "neutral"}, rows[0]]


@pytest.fixture(scope="module")
def artifacts_folder(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """One artifact of each kind, with all that its stage leaves beside the rows."""
    folder = tmp_path_factory.mktemp("kinds")
    with commands_in(folder) as run:
        files = write_files(folder)
        stages = Stages(run, files, tiny_bert)
        source = write_jsonl(folder / "data/raw.jsonl", raw(30))
        clean = ("clean", "--config=clean.yaml", "--exclude=null", "--language=null", "--near_duplicates=null")
        embed = ("predict", "--config=embed.yaml", f"--model.model={tiny_bert}", f"--data.pool.path={files.pool}")
        translate = ("predict", "--config=translate.yaml", f"--data.rows.path={files.gold}", "--data.gates.longest=0.9")
        for outcome in (
            stages.teacher(f"--data.pool.path={files.pool}", "--trainer.logger=true"),
            stages.pseudolabel("--trainer.logger=true"),
            stages.select(),
            stages.test("--model.model=teacher/model", "--trainer.logger=true"),
            stages.report(),
            run(*clean, f"--raw.path={source}", "--out=clean"),
            run(*embed, "--out=embed", *WITH_LOGS),
            run(*translate, "--out=translate", *WITH_LOGS),
        ):
            assert outcome.code == 0, outcome.err
    return folder


def expected(folder: Path) -> list[dict[str, Any]]:
    """The rows as this project reads them."""
    if folder.name != "dynamics":
        rows: list[dict[str, Any]] = labelbridge.read(folder).table.to_pylist()
        return rows
    read = read_dynamics(folder, labelbridge.Task("sentiment", ["text"], LABELS))
    return [
        {"epoch": epoch, "row": row, **dict(zip(LABELS, log_probs.tolist(), strict=True))}
        for epoch, log_probs_NC in enumerate(read.log_probs_ENC)
        for row, log_probs in enumerate(log_probs_NC)
    ]


def by_datasets(folder: Path) -> list[dict[str, Any]]:
    import datasets

    datasets.disable_progress_bars()
    data = datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / ".cache"))
    rows: list[dict[str, Any]] = data.with_format("arrow")[:].to_pylist()
    return rows


def by_pandas(folder: Path) -> list[dict[str, Any]]:
    import pandas as pd

    rows: list[dict[str, Any]] = json.loads(pd.read_parquet(folder).to_json(orient="records", double_precision=15))
    return rows


def by_duckdb(folder: Path) -> list[dict[str, Any]]:
    import duckdb

    rows: list[dict[str, Any]] = duckdb.sql(f"select * from '{folder}/*.parquet'").to_arrow_table().to_pylist()
    return rows


def by_polars(folder: Path) -> list[dict[str, Any]]:
    polars = pytest.importorskip("polars")
    rows: list[dict[str, Any]] = polars.read_parquet(f"{folder}/*.parquet").to_dicts()
    return rows


OPENERS = {"datasets": by_datasets, "pandas": by_pandas, "duckdb": by_duckdb, "polars": by_polars}


@pytest.mark.slow
@pytest.mark.parametrize("opened", OPENERS.values(), ids=OPENERS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_artifact_opens(kind: str, opened: Callable[[Path], list[dict[str, Any]]], artifacts_folder: Path):
    folder = artifacts_folder / kind
    rows, ours = opened(folder), expected(folder)
    assert len(rows) == len(ours)
    assert ours, kind
    for row, own in zip(rows, ours, strict=True):
        assert list(row) == list(own)
        for name, value in own.items():
            assert row[name] == (pytest.approx(value, rel=1e-6) if isinstance(value, float | list) else value), name


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_beside_the_rows_has_a_name_that_readers_skip(kind: str, artifacts_folder: Path):
    names = [path.name for path in (artifacts_folder / kind).iterdir()]
    assert {"_manifest.json", ".huggingface.yaml"} <= set(names)
    assert all(name.endswith(".parquet") or name[0] in "._" for name in names), names


def test_rows_of_dynamics_are_joined_to_their_ids(artifacts_folder: Path):
    import pandas as pd

    folder = artifacts_folder / "teacher/dynamics"
    ids = pd.read_parquet(folder / "_ids/ids.parquet")["id"]
    table = pd.read_parquet(folder)
    read = read_dynamics(folder, labelbridge.Task("sentiment", ["text"], LABELS))
    assert ids.iloc[table["row"]].tolist() == [*read.ids] * len(read.log_probs_ENC)
