"""Checkpoints of a fit: whether its best one will be exported, and from which one it resumes."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from ..core.errors import InputError
from ..core.runs import LAST_CHECKPOINT

log = logging.getLogger(__name__)


def check_ends_with_model(trainer: Trainer) -> None:
    """Refuse a fit without a check on the source dev set, from which the best model is exported: it would be lost.

    Raises:
        InputError: Names the setting.
    """
    epochs, steps = trainer.max_epochs, trainer.max_steps
    every, interval = trainer.check_val_every_n_epoch, trainer.val_check_interval
    found = None
    if epochs == 0 or steps == 0:
        found = f"max_{'epochs' if epochs == 0 else 'steps'} is 0, so nothing is trained"
    elif trainer.limit_train_batches == 0:
        found = "limit_train_batches is 0, so nothing is trained"
    elif trainer.limit_val_batches == 0:
        found = "limit_val_batches is 0, so there is no check on the source dev set"
    elif steps == -1 and epochs is not None and 0 < epochs < (every or 0) and interval == 1.0:
        found = f"check_val_every_n_epoch is {every} and max_epochs {epochs}, so none is checked on dev"
    if found is not None:
        raise InputError(f"trainer: {found}, expected one check at least: it exports the best model")


@contextmanager
def given_checkpoint(path: str | None) -> Iterator[None]:
    """Turn whatever a checkpoint that was given by hand makes of a command into one line.

    Args:
        path: What `ckpt_path` says.

    Raises:
        InputError: If there is no such file, or it is no checkpoint of this model.
    """
    if path is None:
        yield
        return
    if not Path(path).is_file():
        raise InputError(f"ckpt_path {path}: no such file; give a Lightning checkpoint of this model, or leave it out")
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if not any(frame.filename.endswith("checkpoint_connector.py") for frame in frames):
            raise
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"ckpt_path {path}: cannot be loaded ({type(error).__name__}: {reason}); give a Lightning checkpoint of "
            "this model, or leave it out"
        ) from None


def checkpoint_to_resume(out: Path, run: str) -> Path | None:
    """The checkpoint that a killed fit left in its folder; one that cannot be used is removed, with a warning.

    Args:
        out: The run's folder.
        run: The fingerprint of the run's identity.
    """
    checkpoint = out / LAST_CHECKPOINT
    if not checkpoint.is_file():
        return None
    try:
        # Maps the weights instead of reading them: a cut file shows all the same.
        content: Any = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        state = content["callbacks"]["Resume"]
        wrong = None if state.get("run", run) == run else "it is another run's"
    except Exception as error:  # noqa: BLE001 - what is not a checkpoint fails in any way
        wrong = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
    if wrong is None:
        log.info("%s: resuming from %s", out, checkpoint)
        return checkpoint
    log.warning("%s: cannot be resumed from (%s); starting over", checkpoint, wrong)
    checkpoint.unlink()
    return None
