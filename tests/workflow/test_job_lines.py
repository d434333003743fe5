"""One line per job."""

import logging
from pathlib import Path
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from workflow.progress import OneLineEach, _duration


def record(event: LogEvent | None, level: int = logging.INFO, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, "", 0, "hello", None, None)
    vars(made).update(fields, **({"event": event} if event is not None else {}))
    return made


def started(number: int, rule: str, log: str = "x.txt", **wildcards: str) -> logging.LogRecord:
    return record(LogEvent.JOB_INFO, jobid=number, rule_name=rule, wildcards=wildcards, log=[log])


def test_a_finished_job_is_one_line_with_its_number():
    lines = OneLineEach()
    assert not lines.filter(started(7, "student", place="hi/", method="T-top-k", seed="1"))
    assert not lines.filter(started(8, "clean"))
    assert not lines.filter(record(LogEvent.JOB_FINISHED, job_id=7))
    assert not lines.filter(record(LogEvent.JOB_FINISHED, job_id=8))
    progress = record(LogEvent.PROGRESS, done=5, total=60)
    assert lines.filter(progress)
    assert progress.getMessage() == "[4 of 60] student hi T-top-k seed1 (0 s)\n[5 of 60] clean (0 s)"


def test_the_job_that_only_gathers_says_nothing():
    lines = OneLineEach()
    lines.filter(started(0, "all"))
    lines.filter(record(LogEvent.JOB_FINISHED, job_id=0))
    assert not lines.filter(record(LogEvent.PROGRESS, done=60, total=60))


def test_a_failed_job_shows_the_last_line_of_its_log(tmp_path: Path):
    log = tmp_path / "log.txt"
    log.write_text("loading\nerror: pool.jsonl: no such file\n")
    lines = OneLineEach()
    lines.filter(started(3, "teacher", str(log), seed="0"))
    failed = record(LogEvent.JOB_ERROR, logging.ERROR, jobid=3)
    assert lines.filter(failed)
    assert failed.getMessage() == f"failed: teacher seed0: error: pool.jsonl: no such file (log: {log})"
    assert not lines.filter(record(LogEvent.ERROR, logging.ERROR, exception="RuleException"))
    assert lines.filter(record(LogEvent.ERROR, logging.ERROR, exception="WorkflowError"))


def test_warnings_pass_and_chatter_does_not():
    lines = OneLineEach()
    assert lines.filter(record(None, logging.WARNING))
    assert not lines.filter(record(None))
    assert not lines.filter(record(LogEvent.SHELLCMD))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (7260, "2 h 1 min")]
)
def test_durations_are_readable(seconds: float, text: str):
    assert _duration(seconds) == text
