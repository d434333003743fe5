"""Four jobs that share a predict or a test write what one writes, to the same bits."""

from pathlib import Path
from typing import Any

import pytest
from conftest import QUIET, Outcome, Stages, labelled, write_jsonl

from labelbridge.lightning_app.core import artifacts

ROWS = 61


@pytest.fixture
def run(stages: Stages, tiny_classifier: Path) -> Any:
    """Runs a predict or a test over many small batches."""
    write_jsonl(stages.files.pool, labelled(ROWS, 3, "prompt_label"))
    write_jsonl(stages.files.target, labelled(ROWS, 4))
    of_stage = {
        "pseudolabel": ["predict", "--config", "pseudolabel.yaml", f"--data.pool.path={stages.files.pool}"],
        "test": ["test", "--config", "test.yaml", f'--data.targets={{"en": {{"path": "{stages.files.target}"}}}}'],
    }

    def run(stage: str, out: str, *more: str) -> Outcome:
        words = [f"--model.model={tiny_classifier}", f"--out={out}", "--data.tokens_per_batch=40", *QUIET, *more]
        return stages.cli(*of_stage[stage], *words)

    return run


def print_of(out: str) -> str:
    return artifacts.read(Path(out)).manifest.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pseudolabel", "test"])
def test_four_shards_are_one_run(run: Any, stage: str, caplog: pytest.LogCaptureFixture):
    """In any order; what they leave is put together by the command without a shard, which computes no row."""
    assert run(stage, "one").code == 0
    caplog.set_level("INFO")
    for number in (3, 1, 4, 2):
        outcome = run(stage, "four", f"--shard={number}/4")
        assert outcome.code == 0, outcome.err
        assert f"shard {number}/4 is finished" in caplog.text
        assert not artifacts.is_whole(Path("four"))
    assert f"shard 2/4 is finished, {ROWS} of all {ROWS} rows are on the disk" in caplog.text
    assert run(stage, "four").code == 0
    assert f"{ROWS} of {ROWS} rows are finished" in caplog.text
    assert print_of("four") == print_of("one")
    one, four = (artifacts.read(Path(out)).manifest for out in ("one", "four"))
    assert four.facts == one.facts


@pytest.mark.slow
def test_what_a_missing_shard_would_have_computed_is_computed_then(run: Any):
    assert run("pseudolabel", "one").code == 0
    assert run("pseudolabel", "some", "--shard=2/3").code == 0
    assert run("pseudolabel", "some", "--shard=2/3").code == 0  # once more: there is nothing left to do
    assert run("pseudolabel", "some").code == 0
    assert print_of("some") == print_of("one")


@pytest.mark.slow
def test_more_shards_than_batches(run: Any):
    assert run("pseudolabel", "one").code == 0
    assert run("pseudolabel", "many", "--shard=900/900").code == 0
    assert run("pseudolabel", "many").code == 0
    assert print_of("many") == print_of("one")


def test_a_shard_of_a_whole_run_has_nothing_to_do(run: Any):
    assert run("pseudolabel", "one").code == 0
    outcome = run("pseudolabel", "one", "--shard=1/4")
    assert outcome.code == 0
    assert artifacts.is_whole(Path("one"))


@pytest.mark.slow
def test_wrong_shards_and_shards_of_a_fit_are_one_line(run: Any, stages: Stages, tiny_classifier: Path):
    model = f"--model.model={tiny_classifier}"
    outcome = run("pseudolabel", "one", "--shard=5/4")
    assert outcome.code == 2
    assert "shard is '5/4', expected i/n" in outcome.err.splitlines()[-1]
    for command, outcome in (
        ("fit", stages.teacher("--shard=1/2")),
        ("validate", stages.cli("validate", "--config", "validate.yaml", model, *QUIET, "--shard=1/2")),
    ):
        assert outcome.code == 2
        assert f"shard is given to {command}, expected predict, test or clean" in outcome.err.splitlines()[-1]
