"""Artifacts: whole or not there, readable by everyone, changed by no one."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from labelbridge.lightning_app.core import artifacts, fingerprint
from labelbridge.lightning_app.core.errors import InputError


@pytest.fixture
def table() -> pa.Table:
    return pa.table({
        "id": [f"r/{n}" for n in range(7)],
        "text": ["é", "", "don’t", "अच्छा", "a\nb", '"', "z"],
        "probs": [[0.1, 0.9]] * 7,
        "rank": [1, None, 3, 4, 5, 6, 7],
    })  # fmt: skip


@pytest.fixture
def sharded(tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven rows in shards of three."""
    monkeypatch.setattr(artifacts, "SHARD_ROWS", 3)
    artifacts.write(tmp_path / "art", table, stage="select", facts={"labels": ["a", "b"]}, command="python main.py x")
    return tmp_path / "art"


def test_rows_come_back_in_order(sharded: Path, table: pa.Table):
    assert sorted(path.name for path in sharded.iterdir()) == [
        ".huggingface.yaml", "_manifest.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet",
    ]  # fmt: skip
    read = artifacts.read(sharded, "select")
    assert read.table.to_pylist() == table.to_pylist()
    assert (read.manifest.rows, read.manifest.facts) == (7, {"labels": ["a", "b"]})


def test_pandas_duckdb_and_datasets_open_it(sharded: Path, table: pa.Table, tmp_path: Path):
    import datasets
    import duckdb
    import pandas as pd

    ids = table["id"].to_pylist()
    assert pd.concat(pd.read_parquet(part) for part in sorted(sharded.glob("*.parquet")))["id"].tolist() == ids
    rows = duckdb.sql(f"select id from '{sharded}/*.parquet'").fetchall()
    assert [row[0] for row in rows] == ids
    cache = str(tmp_path / "cache")
    assert datasets.load_dataset(str(sharded), split="train", cache_dir=cache)["id"] == ids


def test_the_fingerprint_is_of_rows_and_schema(tmp_path: Path, table: pa.Table):
    one = artifacts.write(tmp_path / "one", table, stage="a").fingerprint
    assert artifacts.write(tmp_path / "two", pa.concat_tables([table[:2], table[2:]]), stage="b").fingerprint == one
    changed = [table.take([1, 0, 2, 3, 4, 5, 6]), table[:6], table.rename_columns(["id", "t", "probs", "rank"])]
    changed.append(table.set_column(3, "rank", pa.array([1, 0, 3, 4, 5, 6, 7])))
    changed.append(table.set_column(2, "probs", pa.array([[0.1], [0.9, 0.1], *[[0.9]] * 5])))
    assert len({one, *(fingerprint.of_table(other) for other in changed)}) == 6


def test_a_rewrite_leaves_no_shard_of_the_old_rows(sharded: Path, table: pa.Table):
    artifacts.write(sharded, table[:2], stage="select")
    assert artifacts.read(sharded).table.num_rows == 2


def test_an_empty_artifact_keeps_its_columns(tmp_path: Path, table: pa.Table):
    artifacts.write(tmp_path / "none", table[:0], stage="select")
    assert artifacts.read(tmp_path / "none").table.schema == table.schema


def test_a_folder_without_a_manifest_is_not_whole(sharded: Path):
    (sharded / "_manifest.json").unlink()
    with pytest.raises(InputError, match=r"incomplete, there is no _manifest.json; run .*select.yaml. to complete it"):
        artifacts.read(sharded, "select")


def test_a_failed_write_leaves_no_manifest(sharded: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch):
    """Nothing looks whole while it is being replaced."""
    monkeypatch.setattr(artifacts.pq, "write_table", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        artifacts.write(sharded, table, stage="select")
    assert not artifacts.is_whole(sharded)


@pytest.mark.parametrize("harm", ["missing", "torn", "foreign"])
def test_shards_that_do_not_match_the_manifest(sharded: Path, table: pa.Table, harm: str):
    shard = sharded / "part-00001.parquet"
    if harm == "missing":
        shard.unlink()
    elif harm == "torn":
        shard.write_bytes(shard.read_bytes()[:100])
    else:
        artifacts.write_parquet(shard, table[3:6].set_column(1, "text", pa.array(["x", "y", "z"])))
    with pytest.raises(InputError, match='rebuild it with "python main.py x"'):
        artifacts.read(sharded)


@pytest.mark.parametrize(
    ("change", "said"),
    [(Path.unlink, "part-00001.parquet is missing"),
     (lambda shard: shard.write_bytes(shard.read_bytes()[:100]), "part-00001.parquet has 100 bytes instead of")],
)  # fmt: skip
def test_an_artifact_is_complete_when_every_shard_is_there_with_its_size(sharded: Path, change, said: str):
    assert artifacts.is_whole(sharded)
    change(sharded / "part-00001.parquet")
    assert not artifacts.is_whole(sharded)
    assert (artifacts.why_incomplete(sharded) or "").startswith(said)
    with pytest.raises(InputError, match=f"incomplete, {said}"):
        artifacts.read_manifest(sharded)


def test_an_artifact_inside_another_belongs_to_it(tmp_path: Path, table: pa.Table):
    artifacts.write(tmp_path / "_rejected", table, stage="rejected")
    artifacts.write(tmp_path, table, stage="clean", files=artifacts.files_of(tmp_path / "_rejected"))
    assert artifacts.is_whole(tmp_path)
    (tmp_path / "_rejected/part-00000.parquet").unlink()
    assert artifacts.why_incomplete(tmp_path) == "_rejected/part-00000.parquet is missing"


def test_an_artifact_is_joined_only_with_its_own_ancestor(tmp_path: Path, table: pa.Table):
    inputs = {"pool": {"paths": ["pool"], "fingerprint": "sha256:1"}}
    artifacts.write(tmp_path / "art", table, stage="pseudolabel", inputs=inputs, lineage={"raw": "sha256:0"})
    artifact = artifacts.read(tmp_path / "art")
    artifacts.check_same_ancestor(artifact, "pool", "sha256:1", "pool")
    artifacts.check_same_ancestor(artifact, "raw", "sha256:0", "raw")
    with pytest.raises(InputError, match=r"built from another pool \(sha256:1…\) than mine .*pseudolabel.yaml"):
        artifacts.check_same_ancestor(artifact, "pool", "sha256:2", "mine")


def test_the_manifest_says_what_made_it(sharded: Path):
    manifest = json.loads((sharded / "_manifest.json").read_text())
    assert manifest["command"] == "python main.py x"
    assert manifest["columns"]["probs"] == "list<item: double>"
    assert {"labelbridge", "python", "torch", "pyarrow"} <= set(manifest["versions"])
