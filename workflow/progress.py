"""One line for each finished job of a grid, in the place of Snakemake's own dozen."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

# What a real run does not need: each job's start, its command, the cores, and a table of jobs.
QUIET = (
    LogEvent.JOB_INFO, LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.SHELLCMD, LogEvent.RUN_INFO,
    LogEvent.RESOURCES_INFO, LogEvent.WORKFLOW_STARTED,
)  # fmt: skip


@dataclass
class Job:
    """A job that has been started."""

    name: str
    log: str | None
    started: float


class OneLineEach(logging.Filter):
    """Lets warnings and errors pass, and turns a job's end into `[12 of 60] student T-top-k seed1 (2 min 3 s)`."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[int, Job] = {}
        self.finished: list[int] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown; changes the text of those that end a job."""
        event = getattr(record, "event", None)
        fields: dict[str, Any] = vars(record)
        if event is None:
            return record.levelno >= logging.WARNING
        if event == LogEvent.ERROR:  # Snakemake repeats a failed job's command; its line has been shown
            return fields.get("exception") != "RuleException"
        if event == LogEvent.JOB_INFO:
            self.jobs[fields["jobid"]] = Job(_name(fields), next(iter(fields["log"] or []), None), time.monotonic())
        if event == LogEvent.JOB_FINISHED:
            self.finished.append(fields["job_id"])
        if event == LogEvent.PROGRESS:
            return self._show_progress(record, fields["done"], fields["total"])
        if event == LogEvent.JOB_ERROR:
            return self._show_error(record, fields["jobid"])
        return event not in QUIET

    def _show_progress(self, record: logging.LogRecord, done: int, total: int) -> bool:
        finished, self.finished = self.finished, []
        lines = []
        for position, number in enumerate(finished, start=done - len(finished) + 1):
            job = self.jobs.get(number)
            if job is not None and job.name != "all":
                lines.append(f"[{position} of {total}] {job.name} ({_duration(time.monotonic() - job.started)})")
        _say(record, "\n".join(lines))
        return bool(lines)

    def _show_error(self, record: logging.LogRecord, number: int) -> bool:
        job = self.jobs.get(number)
        if job is None:
            return True
        _say(record, f"failed: {job.name}: {_last_line(job.log)}")
        return True


def install() -> None:
    """Show one line per job on the terminal; Snakemake's log file keeps everything."""
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            handler.addFilter(OneLineEach())


def _name(fields: dict[str, Any]) -> str:
    wildcards = fields["wildcards"] or {}
    values = [f"seed{value}" if name == "seed" else str(value).rstrip("/") for name, value in wildcards.items()]
    return " ".join([fields["rule_name"], *filter(None, values)])


def _say(record: logging.LogRecord, text: str) -> None:
    """Make this the record's text: without an event, Snakemake's formatter prints it as it is."""
    record.msg, record.args = text, None
    vars(record)["event"] = None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _last_line(log: str | None) -> str:
    """What a failed command said last, and where the rest is."""
    if log is None or not Path(log).is_file():
        return "there is no log"
    lines = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'no message'} (log: {log})"
