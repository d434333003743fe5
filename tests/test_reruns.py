"""The same command again: complete says so, partial resumes, and no file that goes missing traps anyone."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import Outcome, Stages
from test_mistakes import refused

from labelbridge.lightning_app.core import artifacts

COMPLETE = "already complete, nothing to do"
# Every stage of the loop, and a stage that reads it.
READERS = {"pseudolabel": "select", "select": "student", "test": "report"}


def command_in(outcome: Outcome) -> list[str]:
    """The words of the command that an error line names, without the program."""
    named = re.findall(r'"python main.py (.*?)"(?:,|$|;| to complete)', outcome.err.strip())
    assert named, outcome.err
    return shlex.split(named[-1].replace("'\"", "'").replace("\"'", "'"))


def shard(folder: str) -> Path:
    return Path(folder, "part-00000.parquet")


@pytest.fixture(autouse=True)
def _log_lines(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")


@pytest.mark.slow
@pytest.mark.parametrize("folder", READERS)
@pytest.mark.parametrize("harm", ["delete", "truncate"])
def test_a_lost_shard_is_rebuilt_by_the_command_that_the_error_names(loop: Stages, folder: str, harm: str):
    before = artifacts.read_manifest(Path(folder)).fingerprint
    if harm == "delete":
        shard(folder).unlink()
    else:
        shard(folder).write_bytes(shard(folder).read_bytes()[:-9])
    assert not artifacts.is_whole(Path(folder))
    outcome = getattr(loop, READERS[folder])("--out=elsewhere")
    refused(
        outcome, f"{folder}: incomplete, part-00000.parquet (is missing|has .* bytes instead of)", "rebuild it with"
    )
    assert loop.cli(*command_in(outcome)).code == 0
    assert artifacts.read(Path(folder)).manifest.fingerprint == before
    assert getattr(loop, READERS[folder])("--out=elsewhere").code == 0


@pytest.mark.slow
def test_lost_weights_are_trained_again(loop: Stages):
    before = artifacts.read_manifest(Path("student")).fingerprint
    Path("student/model/model.safetensors").unlink()
    assert loop.student().code == 0
    assert artifacts.read_manifest(Path("student")).fingerprint == before


@pytest.mark.slow
def test_lost_dynamics_are_written_again_by_the_fit_that_made_them(stages: Stages):
    pool = f"--data.pool.path={stages.files.pool}"
    assert stages.teacher(pool).code == 0
    before = artifacts.read_manifest(Path("teacher/dynamics")).fingerprint
    Path("teacher/dynamics/epoch-00001.parquet").unlink()
    ambiguous = ("--strategy=ambiguous", "--dynamics=teacher/dynamics", "--class_from=prompt", "--pseudolabels=null")
    outcome = stages.select(*ambiguous)
    refused(outcome, "teacher/dynamics: incomplete, epoch-00001.parquet is missing; rebuild it with")
    assert stages.cli(*command_in(outcome)).code == 0
    assert artifacts.read_manifest(Path("teacher/dynamics")).fingerprint == before
    assert stages.select(*ambiguous).code == 0


def test_a_torn_manifest_is_written_again(loop: Stages):
    before = artifacts.read_manifest(Path("select")).fingerprint
    Path("select/_manifest.json").write_text('{"stage": "sel')
    assert loop.select().code == 0
    assert artifacts.read_manifest(Path("select")).fingerprint == before


@pytest.mark.slow
def test_rebuilding_after_a_change_of_the_input_names_overwrite(loop: Stages):
    """The identity is another one then, so that the command alone would be refused."""
    assert loop.teacher("--seed_everything=1", "--overwrite=true").code == 0
    outcome = loop.select("--out=elsewhere")
    refused(outcome, "pseudolabel: out of date", '--overwrite=true"$')
    assert loop.cli(*command_in(outcome)).code == 0
    assert loop.select("--out=elsewhere").code == 0


def test_a_strategy_that_raised_leaves_the_folder_to_its_fixed_version(loop: Stages):
    Path("my_strategy.py").write_text("def worst(candidates):\n    raise RuntimeError('not yet')\n")
    words = ("--strategy=my_strategy.worst", "--out=mine")
    refused(loop.select(*words), "my_strategy.py.*not yet")
    Path("my_strategy.py").write_text("def worst(candidates):\n    return -candidates.log_probs_NC.max(axis=1)\n")
    assert loop.select(*words).code == 0


def test_report_is_always_rewritten(loop: Stages):
    assert loop.report("--metric=macro_f1").code == 0
    assert "macro" in Path("report/report.md").read_text().lower()
    Path("report/_manifest.json").unlink()
    assert loop.report("--metric=accuracy").code == 0
    Path("report/report.md").unlink()
    assert loop.report("--metric=ece").code == 0
    assert Path("report/report.md").is_file()


def test_a_report_does_not_replace_another_stage(loop: Stages):
    refused(loop.cli("report", "--runs=[test]", "--out=select"), "select: holds another run")


@pytest.mark.parametrize("stage", ["pseudolabel", "select", "student", "test"])
def test_overwrite_keeps_what_the_same_run_has_computed(loop: Stages, stage: str, caplog: pytest.LogCaptureFixture):
    file = Path(stage, artifacts.MANIFEST)
    before = file.stat().st_mtime_ns
    assert getattr(loop, stage)("--overwrite=true").code == 0
    assert file.stat().st_mtime_ns == before
    assert f"{stage}: {COMPLETE} (--overwrite replaces other runs alone" in caplog.text


def test_what_a_model_was_made_from_is_not_replaced_by_its_own_predictions(loop: Stages):
    """As a loop of self-training would that has one folder for all of its rounds: nothing could be made again then."""
    before = artifacts.read_manifest(Path("pseudolabel")).fingerprint
    outcome = loop.pseudolabel("--model.model=student/model", "--overwrite=true")
    refused(outcome, "pseudolabel: student/model, which this command reads, was made from it.*choose another --out")
    assert artifacts.read_manifest(Path("pseudolabel")).fingerprint == before
    assert loop.pseudolabel("--model.model=student/model", "--out=second").code == 0


def test_overwrite_is_not_part_of_the_command_that_an_artifact_records(loop: Stages):
    for words in (("--overwrite=true",), ("--overwrite", "true")):
        assert loop.select("--quota=3", *words).code == 0
        command = artifacts.read_manifest(Path("select")).command
        assert not {"--overwrite", "--overwrite=true", "true"} & set(shlex.split(command))
        assert command.endswith("--quota=3")


def test_a_complete_test_prints_its_metrics(loop: Stages, caplog: pytest.LogCaptureFixture):
    assert loop.test().code == 0
    assert f"test: {COMPLETE}" in caplog.text
    assert re.search(r"en: .*accuracy 0\.\d+", caplog.text)
    assert "next: python main.py report" in caplog.text


def test_a_complete_selection_prints_its_counts(loop: Stages, caplog: pytest.LogCaptureFixture):
    assert loop.select().code == 0
    assert f"select: {COMPLETE}" in caplog.text
    assert re.search(r"select: negative: kept \d+ of \d+", caplog.text)
