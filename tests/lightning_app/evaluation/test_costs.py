"""The cost of methods, in all files of a report."""

import csv
import json
from pathlib import Path

import pytest
from test_page import write_chain
from torch.utils.tensorboard import SummaryWriter

from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.costs import cost_lines, costs_of
from labelbridge.lightning_app.evaluation.report import make_report
from labelbridge.lightning_app.evaluation.training_curves import Training


def training(method: str, seconds: float | None, energy_wh: float | None) -> Training:
    return Training(method, "0", "zero-shot", "sentiment", "runs/x", 10, 6, 8, seconds, None, energy_wh)


def test_a_cost_is_the_mean_over_the_runs_that_know_it():
    (cost,) = costs_of([training("T", 60, 2.0), training("T", 120, 4.0), training("T", None, None)])
    assert (cost.runs, cost.seconds, cost.energy_wh, cost.tokens) == (3, 90, 3, None)


def test_energy_is_shown_where_any_method_knows_it():
    known = cost_lines(costs_of([training("SRC", 60, None), training("T", 60, 2.5)]))
    assert known[5].endswith("| minutes | million tokens | GB at most | watt-hours |")
    assert known[-2].endswith("| 1.0 | not logged | not logged | not logged |")
    assert known[-1].endswith("| 1.0 | not logged | not logged | 2.5 |")
    assert "watt-hours" not in "\n".join(cost_lines(costs_of([training("T", 60, None)])))


def test_a_report_without_trainings_has_no_costs():
    assert cost_lines(costs_of([])) == []


@pytest.mark.parametrize("counted", [True, False])
def test_every_file_of_a_report_has_the_costs(tmp_path: Path, task: Task, counted: bool):
    runs = write_chain(tmp_path, task)
    for start in range(2):  # the second resumes the first
        with SummaryWriter(str(tmp_path / "student-top/_logs"), filename_suffix=f".{start}") as writer:
            for step, seconds in ((5, 100), (10, 160)):
                writer.add_scalar("throughput/tokens_per_s", 300, step, walltime=seconds)
                writer.add_scalar("throughput/peak_memory_gb", 1 + seconds / 100, step, walltime=seconds)
                if counted:
                    writer.add_scalar("throughput/energy_wh", seconds / 100, step, walltime=seconds)
    out = tmp_path / "report"
    make_report(runs, str(out))
    by_method = {one["method"]: one for one in json.loads((out / "report.json").read_text())["costs"]}
    energy = pytest.approx(3.2) if counted else None
    assert (by_method["T-top-k"]["seconds"], by_method["T-top-k"]["energy_wh"]) == (120, energy)
    assert by_method["T-rand-k"]["energy_wh"] is None
    assert by_method["T-top-k"]["peak_gb"] == pytest.approx(2.6)
    assert by_method["T-rand-k"]["peak_gb"] is None
    with (out / "costs.csv").open() as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    assert rows["T-top-k"]["seconds"] == "120"
    assert rows["T-top-k"]["energy_wh"][:3] == ("3.2" if counted else "")
    for name in ("details.md", "report.html"):
        text = (out / name).read_text(encoding="utf-8")
        assert "exported step" in text
        assert "GB at most" in text
        assert ("watt-hours" in text) == counted
