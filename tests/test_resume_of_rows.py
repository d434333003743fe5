"""Predictions that were killed anywhere end as those that were not: no row lost, none doubled."""

import random
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import warm
from conftest import QUIET, Stages, labelled, write_jsonl

from labelbridge.lightning_app.core import artifacts

pytestmark = pytest.mark.slow
ROWS = 203


@pytest.fixture
def words(stages: Stages, tiny_classifier: Path):
    """Words of a predict or a test over many small batches, each on the disk as soon as it is finished."""
    write_jsonl(stages.files.pool, labelled(ROWS, 3, "prompt_label"))
    write_jsonl(stages.files.target, labelled(ROWS, 3))
    of_stage = {
        "predict": ["predict", "--config", "pseudolabel.yaml", f"--data.pool.path={stages.files.pool}"],
        "test": ["test", "--config", "test.yaml", f'--data.targets={{"en": {{"path": "{stages.files.target}"}}}}'],
    }

    def words(stage: str, out: str, *more: object) -> list[object]:
        return [
            *of_stage[stage], f"--model.model={tiny_classifier}", f"--out={out}", "--data.tokens_per_batch=40",
            "--rows.flush_seconds=0", *QUIET, *more,
        ]  # fmt: skip

    return words


@pytest.fixture
def predict(words):
    """The words of a predict."""
    return lambda out, *more: words("predict", out, *more)


def killed_at(batch: int, stage: str = "predict", number: int = signal.SIGKILL) -> list[str]:
    return warm.probe("KillAt", batch=batch, hook=f"on_{stage}_batch_end", number=int(number))


def count_rows(table: pa.Table) -> tuple[int, int]:
    """Rows lost and rows doubled."""
    ids = table["id"].to_pylist()
    expected = {row["id"] for row in labelled(ROWS, 3)}
    return len(expected - set(ids)), len(ids) - len(set(ids))


def content(out: str) -> tuple[str, dict[str, bytes]]:
    """An artifact's rows by fingerprint, and every file of it but what tells of the run itself."""
    files = {path.name: path.read_bytes() for path in Path(out).iterdir() if path.is_file()}
    told = ("_manifest.json", "_config.yaml", "_identity.json")  # with the callback that killed it
    return artifacts.read(Path(out)).manifest.fingerprint, {
        name: b"" if name in told else one for name, one in files.items()
    }


WRITES = [("_identity.json", 1), ("*.parquet", 5), ("*.parquet", 23), ("part-00000.parquet", 1), ("_manifest.json", 1)]


@pytest.mark.parametrize("stage", ["predict", "test"])
def test_a_killed_run_resumes_to_the_same_bits(words, tmp_path: Path, stage: str):
    """Kills between batches, and in the middle of a write, which then lies there half; also of metrics and manifest."""
    assert warm.run(words(stage, "whole"), tmp_path) == 0, warm.said(tmp_path)
    expected, files = content("whole")
    kills = [killed_at(batch, stage) for batch in random.Random(0).sample(range(1, 38), 14)]
    writes = [*WRITES, ("_metrics.json", 1)] if stage == "test" else WRITES
    kills += [warm.probe("KillWriting", name=name, time=time) for name, time in writes]
    kills += [warm.probe("KillWriting", name="_manifest.json", after="true")]
    lost = doubled = 0
    for number, kill in enumerate(kills):
        out = f"killed-{number}"
        assert warm.run(words(stage, out, *kill), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
        assert artifacts.is_whole(Path(out)) == (kill == kills[-1])
        assert warm.run(words(stage, out), tmp_path) == 0, warm.said(tmp_path)
        assert content(out) == (expected, files), kill
        table = artifacts.read(Path(out)).table
        lost, doubled = lost + count_rows(table)[0], doubled + count_rows(table)[1]
        assert not Path(out, ".parts").exists()
    print(f"{stage}: {len(kills)} kills, {lost} rows lost, {doubled} rows doubled")
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


@pytest.mark.parametrize("stage", ["predict", "test"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_what_is_finished(words, tmp_path: Path, stage: str, number: signal.Signals):
    kill = [*killed_at(10, stage, number), "--rows.flush_seconds=1000"]
    assert warm.run(words(stage, "asked", *kill), tmp_path) == 128 + number
    said = f"stopped on request, finished rows are saved in asked; resume with: python main.py {stage}"
    assert said in warm.said(tmp_path)
    assert warm.run(words(stage, "asked"), tmp_path) == 0
    assert " rows are finished" in warm.said(tmp_path)
    assert count_rows(artifacts.read(Path("asked")).table) == (0, 0)


def test_timed_kills(predict, tmp_path: Path):
    """Kills fall into imports and planning too."""
    assert warm.run(predict("whole"), tmp_path) == 0
    expected = artifacts.read_manifest(Path("whole")).fingerprint
    rng = random.Random(2)
    kills = 0
    for trial in range(2):
        for _ in range(3):
            kills += warm.kill_after(warm.start(predict(f"timed-{trial}"), tmp_path), rng.uniform(0.2, 1.5))
        assert warm.run(predict(f"timed-{trial}"), tmp_path) == 0, warm.said(tmp_path)
        assert artifacts.read(Path(f"timed-{trial}")).manifest.fingerprint == expected
    print(f"{kills} timed kills")
    assert kills
