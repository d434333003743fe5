"""Jobs that share a clean write what one writes, byte for byte."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import filelock
import pytest
from conftest import PROJECT, Command, Outcome, write_jsonl

import labelbridge
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.generation import judged_rows
from labelbridge.lightning_app.generation.filters import suspected_languages

TEXTS = [
    'Review: "The pool was lovely and the staff were kind."',
    "The pool was lovely and the staff were kind",
    "The pool was lovely and the staff were kind and helpful.",
    "I cannot fulfill your request.",
    None,
    "Bad.",
    "La batería murió después de una semana y nadie en la tienda quiso ayudarme.",
    "Das Essen war kalt und die Bedienung unfreundlich.",
    "It was served by the Aeropuerto Internacional de la Ciudad de México.",
    "The café charges 3.5 euros for tea, and I don't mind paying it.",
]  # fmt: skip


@pytest.fixture
def run(cli: Command, tmp_path: Path) -> Any:
    """Cleans ten rows; without the language check, whose models take seconds to load, unless it is asked for."""
    write_jsonl(tmp_path / "raw.jsonl", [{"text": text, "prompt_label": "neutral"} for text in TEXTS])

    def run(out: str, *words: str, language: str = "null") -> Outcome:
        return cli(
            "clean", "--config=clean.yaml", "--raw.path=raw.jsonl", "--exclude=null", "--min_words=3",
            "--near_duplicates=0.6", f"--language={language}", f"--out={out}", *words,
        )  # fmt: skip

    return run


def content(out: str) -> list[bytes]:
    """The files with the rows that are kept, and with those that are rejected."""
    return [(Path(out) / part / "part-00000.parquet").read_bytes() for part in ("", "_rejected")]


@pytest.mark.slow
def test_four_shards_are_one_run(run: Any, caplog: pytest.LogCaptureFixture):
    """In any order; what they leave is put together by the command without a shard, which judges no row."""
    assert run("one", language="en").code == 0
    caplog.set_level("INFO")
    for number in (3, 1, 4, 2):
        outcome = run("four", f"--shard={number}/4", language="en")
        assert outcome.code == 0, outcome.err
        assert not artifacts.is_whole(Path("four"))
    assert "four: shard 2/4 is finished, 10 of all 10 rows are on the disk" in caplog.text
    assert "predict --config" not in caplog.text  # there is no pool yet for the next command
    assert run("four", language="en").code == 0
    assert "four: 10 of 10 rows are finished" in caplog.text
    assert content("four") == content("one")
    one, four = (artifacts.read(Path(out)).manifest for out in ("one", "four"))
    assert four.facts == one.facts
    assert one.facts["counts"]["total"]["language"] == 2
    assert four.fingerprint == one.fingerprint
    assert not (Path("four") / ".parts").exists()


def test_what_a_missing_shard_would_have_computed_is_computed_then(run: Any, caplog: pytest.LogCaptureFixture):
    assert run("one").code == 0
    caplog.set_level("INFO")
    assert run("some", "--shard=2/3").code == 0
    assert run("some", "--shard=2/3").code == 0  # once more: there is nothing left to do
    assert len(list(Path("some/.parts").iterdir())) == 1
    assert run("some").code == 0
    assert "some: 3 of 10 rows are finished" in caplog.text
    assert content("some") == content("one")


def test_more_shards_than_rows(run: Any):
    assert run("one").code == 0
    assert run("many", "--shard=900/900").code == 0
    assert run("many").code == 0
    assert content("many") == content("one")


def test_a_shard_of_a_complete_pool_has_nothing_to_do(run: Any):
    assert run("one").code == 0
    before = content("one")
    assert run("one", "--shard=1/4").code == 0
    assert content("one") == before
    assert not (Path("one") / ".parts").exists()


def test_what_was_computed_before_a_stop_is_kept(run: Any, monkeypatch: pytest.MonkeyPatch):
    """Chunk by chunk: only the one at hand is computed again."""
    assert run("one").code == 0
    monkeypatch.setattr(judged_rows, "CHUNK", 2)
    judged: list[list[int]] = []

    def stop_at(chunk: int) -> None:
        def add(spool: Any, rows: list[int], columns: Any) -> None:
            judged.append(rows)
            if len(judged) == chunk:
                raise KeyboardInterrupt
            original(spool, rows, columns)

        monkeypatch.setattr(judged_rows.Spool, "add", add)

    original = judged_rows.Spool.add
    stop_at(2)
    assert run("stopped", "--shard=1/2").code == 130
    stop_at(0)
    assert run("stopped", "--shard=1/2").code == 0
    assert judged == [[0, 2], [4, 6], [4, 6], [8]]
    assert run("stopped").code == 0
    assert content("stopped") == content("one")


@pytest.mark.slow
def test_a_killed_shard_resumes_to_the_same_bytes(cli: Command, tmp_path: Path):
    rows = [{"text": f"The room {number} was clean, and number {number} too.", "prompt_label": "neutral"}
            for number in range(24_000)]  # fmt: skip
    write_jsonl(tmp_path / "raw.jsonl", rows)
    words = (
        "clean", "--config=clean.yaml", "--raw.path=raw.jsonl", "--exclude=null", "--language=null",
        "--near_duplicates=null",
    )  # fmt: skip
    assert cli(*words, "--out=one").code == 0
    shard = (*words, "--out=killed", "--shard=1/2")
    process = subprocess.Popen([sys.executable, PROJECT / "main.py", *shard], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not (finished := set(Path("killed").glob(".parts/*.parquet"))) and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert cli(*shard).code == 0
    assert finished
    assert finished < set(Path("killed").glob(".parts/*.parquet"))
    assert cli(*words, "--out=killed").code == 0
    assert content("killed") == content("one")


def test_a_shard_of_another_configuration_is_refused(run: Any):
    assert run("pool", "--shard=1/2").code == 0
    for words in (["--shard=2/2"], []):
        outcome = run("pool", "--min_words=5", *words)
        assert outcome.code == 2
        assert "pool: holds another run (min_words: 3 -> 5)" in outcome.err.splitlines()[-1]
    assert run("pool", "--min_words=5", "--overwrite=true").code == 0
    assert run("five", "--min_words=5").code == 0
    assert content("pool") == content("five")


def test_two_processes_never_compute_the_same_shard(run: Any):
    assert run("pool", "--shard=1/2").code == 0
    with filelock.FileLock("pool/.lock.1-of-2"):
        for words in (["--shard=1/2"], []):
            outcome = run("pool", *words)
            assert outcome.code == 2
            assert "another process is writing here (it holds .lock.1-of-2)" in outcome.err.splitlines()[-1]
        assert run("pool", "--shard=2/2").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard=5/4"], "shard is '5/4', expected i/n with 1 <= i <= n"),
        (["--shard=half"], "shard is 'half', expected i/n with 1 <= i <= n"),
        (["--shard=1/4", "--out=null"], "shard is '1/4' and out is null, expected a folder"),
    ],
)
def test_mistakes_are_one_line(run: Any, words: list[str], said: str):
    outcome = run("pool", *words)
    assert outcome.code == 2
    assert said in outcome.err.splitlines()[-1]
    assert not Path("pool").exists()


def test_shards_of_a_pool_without_rows_leave_no_claim(run: Any):
    assert run("pool", "--min_words=99", "--shard=1/2").code == 0
    outcome = run("pool", "--min_words=99")
    assert outcome.code == 2
    assert "pool: no row is left of 10" in outcome.err.splitlines()[-1]
    assert run("pool").code == 0


def test_what_a_shard_returns_says_how_far_all_are(tmp_path: Path):
    rows = [{"id": str(number), "text": text, "prompt_label": "good"} for number, text in enumerate(TEXTS)]
    task = labelbridge.Task("t", ["text"], ["bad", "good"])
    for number, finished in ((1, 4), (2, 7), (3, 10)):
        pool = labelbridge.clean(rows, task=task, language=None, out=tmp_path / "pool", shard=f"{number}/3")
        assert (len(pool), pool.summary) == (0, {"finished": finished, "rows": 10})
    pool = labelbridge.clean(rows, task=task, language=None, out=tmp_path / "pool")
    assert pool.table.equals(labelbridge.clean(rows, task=task, language=None).table)


def test_what_is_suspected_of_a_text_does_not_depend_on_the_others():
    texts = [text or "" for text in TEXTS]
    together = suspected_languages(texts, [None] * len(texts), "en")
    assert together == [suspected_languages([text], [None], "en")[0] for text in texts]
    assert {"es", "de"} <= set(together)
