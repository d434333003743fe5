"""Two processes give what one gives, with rows that do not divide, and fewer rows than processes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from conftest import PROJECT, QUIET, Stages, labelled, write_jsonl

from labelbridge.lightning_app.core import artifacts

pytestmark = pytest.mark.slow
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp_fork"]


def command(*words: object) -> None:
    """Run a command; two ranks are forked, which spares their imports."""
    assert warm.run(words, Path.cwd()) == 0, warm.said(Path.cwd())


@pytest.fixture
def words(stages: Stages, tiny_classifier: Path) -> dict[str, list[object]]:
    """The words of predict and test."""
    target = f'--data.targets={{"en": {{"path": "{stages.files.target}"}}}}'
    return {
        "predict": ["predict", "--config", "pseudolabel.yaml", f"--model.model={tiny_classifier}",
                    f"--data.pool.path={stages.files.pool}", "--data.tokens_per_batch=40", *QUIET],
        "test": ["test", "--config", "test.yaml", f"--model.model={tiny_classifier}", target, "--data.tokens_per_batch=40", *QUIET],
    }  # fmt: skip


def same_rows(one: artifacts.Artifact, two: artifacts.Artifact) -> None:
    assert two.table["id"].to_pylist() == one.table["id"].to_pylist()
    assert two.table["prediction"].to_pylist() == one.table["prediction"].to_pylist()
    np.testing.assert_allclose(two.table["probs"].to_pylist(), one.table["probs"].to_pylist(), atol=1e-6)


@pytest.mark.parametrize("stage", ["predict", "test"])
@pytest.mark.parametrize("rows", [1, 2, 53])
def test_rows_are_the_same_on_two_processes(stages: Stages, words, stage: str, rows: int):
    write_jsonl(stages.files.pool, labelled(rows, 3, "prompt_label"))
    write_jsonl(stages.files.target, labelled(rows, 4))
    command(*words[stage], "--out=one")
    command(*words[stage], "--out=two", *TWO)
    one, two = artifacts.read(Path("one")), artifacts.read(Path("two"))
    same_rows(one, two)
    if stage == "test":
        assert two.manifest.facts["metrics"]["en"] == pytest.approx(one.manifest.facts["metrics"]["en"], abs=1e-6)


def test_two_processes_that_lightning_starts_give_the_same_rows(words):
    """As a user starts them: rank 0 runs the command line again for rank 1."""
    command(*words["predict"], "--out=one")
    line = [
        sys.executable,
        PROJECT / "main.py",
        *words["predict"],
        "--out=two",
        "--trainer.devices=2",
        "--trainer.strategy=ddp",
    ]
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    same_rows(artifacts.read(Path("one")), artifacts.read(Path("two")))


@pytest.fixture
def fit(stages: Stages, tiny_classifier: Path):
    """The words of a student's fit in float64, without dropout, at a learning rate of zero: gradients alone."""
    assert stages.pseudolabel(f"--model.model={tiny_classifier}").code == 0
    assert stages.select("--class_from=prompt").code == 0
    return [
        "fit", "--config", "student.yaml", *stages.fit_words, "--data.selection=select", "--model.dropout=0",
        "--model.learning_rate=0", "--trainer.precision=64-true", "--trainer.gradient_clip_val=null",
        "--trainer.callbacks+=probes.Gradients",
    ]  # fmt: skip


def gradients(fit: list[object], name: str, batch_size: int, accumulate: int, *more: object) -> torch.Tensor:
    shape = [f"--data.batch_size={batch_size}", f"--trainer.accumulate_grad_batches={accumulate}"]
    command(*fit, f"--out={name}", f"--trainer.callbacks.file={name}.pt", *shape, *more)
    return torch.load(f"{name}.pt", weights_only=True)


@pytest.mark.parametrize(
    "objective", [["--model.objective=paper"], ["--model.objective=released"], ["--model.synthetic_labels=prompt"]]
)
def test_a_windows_gradient_is_the_same_on_two_processes(fit, objective: list[str]):
    """55 rows in windows of 12: the last has 7, so ranks get unequal shares."""
    one = gradients([*fit, *objective], "one", 12, 1)
    two = gradients([*fit, *objective], "two", 2, 3, *TWO)
    assert one.shape == two.shape == (10, one.shape[1])
    assert one.dtype == torch.float64
    for window, (a, b) in enumerate(zip(one, two, strict=True)):
        assert float((a - b).norm() / a.norm()) < 1e-6, window
    print(f"largest relative difference {float(((one - two).norm(dim=1) / one.norm(dim=1)).max()):.1e}")


def dev_metrics(out: str) -> dict[str, float]:
    """What the best check said."""
    facts: dict[str, dict[str, float]] = json.loads(Path(out, "model/labelbridge.json").read_text())
    assert {"dev/accuracy", "dev/macro_f1", "dev/ece", "dev/loss"} <= set(facts["dev"])
    return facts["dev"]


def test_fewer_rows_than_processes_in_the_last_window_and_the_dev_set(stages: Stages, fit):
    """25 gold rows and 18 selected ones in windows of 6: the last has one row, and so has the dev set."""
    write_jsonl(stages.files.gold, labelled(25, 1))
    write_jsonl(stages.files.dev, labelled(1, 2))
    one = gradients(fit, "one", 6, 1)
    two = gradients(fit, "two", 3, 1, *TWO)
    assert len(one) == 2 * 8
    assert float(((one - two).norm(dim=1) / one.norm(dim=1)).max()) < 1e-6
    assert dev_metrics("two") == pytest.approx(dev_metrics("one"), abs=1e-6)


def test_dev_metrics_are_the_same_on_two_processes(fit):
    """15 dev rows in batches of a few, over 2 ranks."""
    for name, more in (("one", []), ("two", TWO)):
        gradients(fit, name, 12 // (1 + bool(more)), 1, "--data.tokens_per_batch=40", *more)
    assert dev_metrics("two") == pytest.approx(dev_metrics("one"), abs=1e-6)


def test_dynamics_are_the_same_on_two_processes(stages: Stages, task):
    """50 pool rows in batches of a few, over 2 ranks, each scored once."""
    from labelbridge.lightning_app.dynamics.store import read_dynamics

    words = ["fit", "--config", "teacher.yaml", *stages.fit_words, f"--data.pool.path={stages.files.pool}",
             "--model.learning_rate=0", "--model.dropout=0", "--data.tokens_per_batch=40"]  # fmt: skip
    command(*words, "--out=one", "--data.batch_size=4")
    command(*words, "--out=two", "--data.batch_size=2", *TWO)
    one, two = (read_dynamics(Path(name, "dynamics"), task) for name in ("one", "two"))
    assert two.ids == one.ids
    np.testing.assert_allclose(two.log_probs_ENC, one.log_probs_ENC, atol=1e-5)
