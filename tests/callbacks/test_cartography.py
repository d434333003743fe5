"""The callback scores every row once an epoch, and the training does not notice."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import LABELS, Stages, labelled, write_jsonl
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader, TensorDataset

from callbacks import CartographyCallback
from lightning_app import artifacts
from lightning_app.dynamics import ScoredRows, read_dynamics
from lightning_app.task import Task


def test_the_training_does_not_notice(stages: Stages):
    """Dropout on, so that a single draw more or less would show."""
    words = ("--model.dropout=0.3", "--trainer.max_epochs=3")
    assert stages.teacher(*words).code == 0
    more = (f"--data.pool.path={stages.files.pool}", "--data.gold_dynamics=true", "--cartography.before_training=true",
            "--cartography.every_n_steps=2")  # fmt: skip
    assert stages.teacher(*words, *more, "--out=mapped").code == 0
    assert Path("teacher/model/model.safetensors").read_bytes() == Path("mapped/model/model.safetensors").read_bytes()


def test_the_last_epoch_is_what_predict_says(stages: Stages, task: Task):
    assert stages.teacher(f"--data.pool.path={stages.files.pool}", "--trainer.max_epochs=1").code == 0
    assert stages.pseudolabel().code == 0
    read = read_dynamics(Path("teacher/dynamics"), task)
    predicted = artifacts.read(Path("pseudolabel")).table
    assert read.ids == predicted["id"].to_pylist()
    assert read.log_probs_ENC.shape == (1, 50, 3)
    np.testing.assert_allclose(np.exp(read.log_probs_ENC[-1]), predicted["probs"].to_pylist(), atol=1e-6)
    assert read.manifest.facts["reference"] == "most likely class after the last epoch"


def test_dynamics_feed_the_selection(stages: Stages):
    assert stages.teacher(f"--data.pool.path={stages.files.pool}").code == 0
    assert stages.pseudolabel().code == 0
    for strategy in ("ambiguous", "easy", "ccs"):
        outcome = stages.select(f"--strategy={strategy}", "--dynamics=teacher/dynamics", f"--out={strategy}")
        assert outcome.code == 0, outcome.err
        assert artifacts.read(Path(strategy)).manifest.lineage["dynamics"]
    released = stages.select("--strategy=easy", "--variant=released", "--dynamics=teacher/dynamics", "--out=released")
    assert released.code == 0
    assert artifacts.read_manifest(Path("released")).facts["class_from"] == "last_epoch"


def test_dynamics_of_another_pool_are_refused(stages: Stages):
    assert stages.teacher(f"--data.pool.path={stages.files.pool}").code == 0
    write_jsonl(stages.files.pool, labelled(50, 33, "prompt_label"))
    assert stages.pseudolabel().code == 0
    outcome = stages.select("--strategy=easy", "--dynamics=teacher/dynamics")
    assert outcome.code == 2
    assert "teacher/dynamics: built from another pool" in outcome.err


def test_the_data_map_is_drawn(stages: Stages):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = (f"--data.pool.path={stages.files.pool}", "--trainer.logger=true")
    assert stages.teacher(*words).code == 0
    assert Path("teacher/dynamics/data_map.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in Path("teacher/dynamics/data_map.svg").read_text()
    events = EventAccumulator("teacher/logs")
    events.Reload()
    assert len(events.Images("data_map/pool")) == 2


class Bare(LightningModule):
    """Somebody else's module, which knows nothing of this project."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return torch.nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_it_serves_a_bare_lightning_module(tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(21, 4, generator=generator)
    y = torch.randint(3, (21,), generator=generator)
    loader = DataLoader(TensorDataset(torch.arange(21), x), batch_size=5)

    def fit(callbacks: list) -> Bare:
        seed_everything(1, verbose=False)
        module = Bare()
        trainer = Trainer(
            accelerator="cpu", max_epochs=3, callbacks=callbacks, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=7, shuffle=True))
        return module

    callback = CartographyCallback(
        out=str(tmp_path),
        rows={"train": ScoredRows(loader, [f"row{n}" for n in range(21)], LABELS, reference=y.numpy())},
        score=lambda module, batch: (batch[0], module.net(batch[1]).log_softmax(dim=1)),
    )
    module, plain = fit([callback]), fit([])
    for one, other in zip(module.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)
    read = read_dynamics(tmp_path / "dynamics-train", Task("t", ["text"], LABELS))
    expected = module.eval().net(x).log_softmax(dim=1)
    np.testing.assert_allclose(read.log_probs_ENC[-1], expected.detach().numpy(), atol=1e-6)
    assert read.manifest.facts["epochs"] == 3


def test_a_loader_that_skips_rows_is_refused(tmp_path: Path):
    x = torch.randn(6, 4)
    loader = DataLoader(TensorDataset(torch.arange(6), x), batch_size=4, drop_last=True)
    callback = CartographyCallback(
        out=str(tmp_path), rows={"train": ScoredRows(loader, list("abcdef"), LABELS)},
        score=lambda module, batch: (batch[0], module.net(batch[1]).log_softmax(dim=1)),
    )  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="4 rows scored, expected each of 6 once"):
        trainer.fit(Bare(), DataLoader(TensorDataset(x, torch.zeros(6, dtype=torch.long)), batch_size=3))
