"""Predictions that were killed anywhere end as those that were not: no row lost, none doubled."""

import random
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import warm
from conftest import Stages, labelled, write_jsonl

from lightning_app import artifacts

pytestmark = pytest.mark.slow
ROWS = 203


@pytest.fixture
def predict(stages: Stages, tiny_classifier: Path, tmp_path: Path):
    """Words of a predict over many small batches, each on the disk as soon as it is finished."""
    write_jsonl(stages.files.pool, labelled(ROWS, 3, "prompt_label"))

    def words(out: str, *more: object) -> list[object]:
        return [
            "predict", "--config", "pseudolabel.yaml", f"--model.model={tiny_classifier}",
            f"--data.pool.path={stages.files.pool}", f"--out={out}", "--data.tokens_per_batch=40", "--rows.flush_seconds=0",
            "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false", *more,
        ]  # fmt: skip

    return words


def killed_at(batch: int) -> list[str]:
    return ["--trainer.callbacks+=probes.KillAt", f"--trainer.callbacks.batch={batch}"]


def count_rows(table: pa.Table) -> tuple[int, int]:
    """Rows lost and rows doubled."""
    ids = table["id"].to_pylist()
    expected = {row["id"] for row in labelled(ROWS, 3)}
    return len(expected - set(ids)), len(ids) - len(set(ids))


def test_a_killed_predict_resumes_to_the_same_bits(predict, tmp_path: Path):
    assert warm.run(predict("whole"), tmp_path) == 0, warm.said(tmp_path)
    expected = artifacts.read_manifest(Path("whole")).fingerprint
    rng = random.Random(0)
    moments = rng.sample(range(1, 38), 20)
    lost = doubled = 0
    for number, batch in enumerate(moments):
        out = f"killed-{batch}"
        assert warm.run(predict(out, *killed_at(batch)), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
        parts = sorted(Path(out, ".parts").glob("*.parquet"), key=lambda part: part.stat().st_mtime_ns)
        if number % 2 and parts:  # the last write torn: it still has its temporary name, and half its bytes
            torn = parts[-1].with_name(f".{parts[-1].name}.1.tmp")
            torn.write_bytes(parts[-1].read_bytes()[:-20])
            parts[-1].unlink()
        assert not artifacts.is_whole(Path(out))
        assert warm.run(predict(out), tmp_path) == 0, warm.said(tmp_path)
        read = artifacts.read(Path(out))
        assert read.manifest.fingerprint == expected, out
        lost, doubled = lost + count_rows(read.table)[0], doubled + count_rows(read.table)[1]
        assert not Path(out, ".parts").exists()
    print(f"{len(moments)} kills: {lost} rows lost, {doubled} rows doubled")
    assert (lost, doubled) == (0, 0)


def test_a_resumed_predict_computes_only_what_is_missing(predict, tmp_path: Path):
    assert warm.run(predict("some", *killed_at(20)), tmp_path) == -signal.SIGKILL
    assert warm.run(predict("some"), tmp_path) == 0
    assert "rows are finished\n" in warm.said(tmp_path)
    finished = int(warm.said(tmp_path).split(f" of {ROWS} rows are finished")[0].rsplit(" ", 1)[-1])
    assert finished >= 19
    assert f"{ROWS - finished} of {ROWS - finished} rows, " in warm.said(tmp_path)


@pytest.mark.parametrize(
    "change", [["--data.tokens_per_batch=111"], ["--trainer.devices=2", "--trainer.strategy=ddp_fork"]]
)
def test_another_batch_size_or_device_count_goes_on_with_the_same_rows(predict, tmp_path: Path, change: list[str]):
    assert warm.run(predict("whole"), tmp_path) == 0
    assert warm.run(predict("other", *killed_at(15)), tmp_path) == -signal.SIGKILL
    assert warm.run(predict("other", *change), tmp_path) == 0, warm.said(tmp_path)
    whole, other = artifacts.read(Path("whole")).table, artifacts.read(Path("other")).table
    assert other["id"].to_pylist() == whole["id"].to_pylist()
    assert other["prediction"].to_pylist() == whole["prediction"].to_pylist()
    np.testing.assert_allclose(other["probs"].to_pylist(), whole["probs"].to_pylist(), atol=1e-5)
    assert count_rows(other) == (0, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_what_is_finished(predict, tmp_path: Path, number: signal.Signals):
    kill = [*killed_at(10), f"--trainer.callbacks.number={int(number)}", "--rows.flush_seconds=1000"]
    assert warm.run(predict("asked", *kill), tmp_path) == 128 + signal.SIGTERM
    assert "stopped on request, finished rows are saved in asked; go on with: python main.py predict" in warm.said(
        tmp_path
    )
    assert warm.run(predict("asked"), tmp_path) == 0
    assert " rows are finished" in warm.said(tmp_path)
    assert count_rows(artifacts.read(Path("asked")).table) == (0, 0)


def test_timed_kills(predict, tmp_path: Path):
    """Kills fall into imports, planning, merging and the manifest too."""
    assert warm.run(predict("whole"), tmp_path) == 0
    expected = artifacts.read_manifest(Path("whole")).fingerprint
    rng = random.Random(2)
    kills = 0
    for trial in range(5):
        for _ in range(3):
            kills += warm.kill_after(warm.start(predict(f"timed-{trial}"), tmp_path), rng.uniform(0.3, 3))
        assert warm.run(predict(f"timed-{trial}"), tmp_path) == 0, warm.said(tmp_path)
        assert artifacts.read(Path(f"timed-{trial}")).manifest.fingerprint == expected
    print(f"{kills} timed kills")
    assert kills
