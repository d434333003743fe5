"""What the logs of a run say of it."""

from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.predictions import Tested as Run
from labelbridge.lightning_app.evaluation.training_curves import Training, trainings


def trained(folder: Path, task: Task, logged: bool = True) -> Training:
    """A tested student whose log says: two checks, 20 seconds, 300 tokens a second."""
    artifacts.write(folder / "student", None, stage="student", fingerprint_of_files="sha256:0", facts={"step": 8})
    if logged:
        with SummaryWriter(str(folder / "student" / "_logs")) as writer:
            for step, (accuracy, seconds) in {4: (0.5, 100), 8: (0.75, 120)}.items():
                writer.add_scalar("dev/accuracy", accuracy, step, walltime=seconds)
                writer.add_scalar("throughput/tokens_per_s", 300, step, walltime=seconds)
    model = {"paths": [str(folder / "student" / "model")], "fingerprint": "sha256:0"}
    artifacts.write(folder / "test", None, stage="test", facts={"task": vars(task)}, inputs={"model": model})
    run = Run(str(folder / "test"), task, "zero-shot", "T-top-k", "0", None, [3, 3, 4], {}, False, [2, 2, 2])
    (found,) = trainings([run])
    return found


def test_a_log_gives_the_curve_the_time_and_the_tokens(tmp_path: Path, task: Task):
    found = trained(tmp_path, task)
    assert found.curve == {4: 0.5, 8: 0.75}
    assert found.seconds == pytest.approx(20)
    assert found.tokens == pytest.approx(6_000)
    assert (found.gold, found.synthetic, found.step) == (10, 6, 8)


def test_without_a_log_nothing_is_invented(tmp_path: Path, task: Task):
    found = trained(tmp_path, task, logged=False)
    assert (found.seconds, found.tokens, found.energy_wh, found.curve) == (None, None, None, {})


def test_energy_adds_up_over_the_starts_of_a_run(tmp_path: Path, task: Task):
    write_start(tmp_path, "first", [1.0, 2.0])
    write_start(tmp_path, "resumed", [0.5, 1.5])
    assert trained(tmp_path, task, logged=False).energy_wh == pytest.approx(3.5)


def test_energy_that_a_start_did_not_count_to_its_end_is_not_known(tmp_path: Path, task: Task):
    write_start(tmp_path / "unknown", "first", [1.0, 2.0])
    write_start(tmp_path / "unknown", "resumed", [])
    assert trained(tmp_path / "unknown", task, logged=False).energy_wh is None
    write_start(tmp_path / "cut", "first", [1.0])
    assert trained(tmp_path / "cut", task, logged=False).energy_wh is None


def write_start(folder: Path, name: str, energies: list[float]) -> None:
    """Write the log of a start with two rates."""
    with SummaryWriter(str(folder / "student" / "_logs"), filename_suffix=name) as writer:
        for step in range(2):
            writer.add_scalar("throughput/tokens_per_s", 300, step)
        for step, energy in enumerate(energies):
            writer.add_scalar("throughput/energy_wh", energy, step)
