"""Checkpoints to resume from, on the disk."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.io import torch_io
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.plugins import AsyncCheckpointIO, TorchCheckpointIO

from labelbridge.callbacks import Resume


class Marked(TorchCheckpointIO):
    """A format of the user's own."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        Path(path).write_text("marked")


def saved(folder: Path, *plugins: Any) -> Path:
    trainer = Trainer(
        accelerator="cpu", max_steps=1, plugins=list(plugins), logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(BoringModel())
    resume = Resume(str(folder))
    resume.save(trainer)
    return resume.path


@pytest.mark.parametrize("plugins", [(), (AsyncCheckpointIO,)])
def test_a_checkpoint_is_complete_and_never_made_in_memory(tmp_path, monkeypatch, plugins):
    monkeypatch.setattr(torch_io, "_atomic_save", lambda *_: pytest.fail("the entire file was made in memory"))
    path = saved(tmp_path, *(make() for make in plugins))
    assert torch.load(path, weights_only=True)["global_step"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_format_of_the_users_own_is_kept(tmp_path):
    assert saved(tmp_path, Marked()).read_text() == "marked"
