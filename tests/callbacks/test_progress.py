"""The progress bar: one for the run, messages above it."""

import io
import logging
import sys

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from torch.utils.data import DataLoader

from labelbridge.callbacks.progress import RunProgressBar, progress_state
from labelbridge.lightning_app.cli.commands import StandardError


@pytest.mark.parametrize(
    ("done", "total", "first", "seconds", "said"),
    [
        (0, 100, 0, 0.0, "0 %, 0 of 100, 0:00:00"),
        (25, 100, 0, 60.0, "25 %, 25 of 100, 0:01:00, 0:03:00 left"),
        (75, 100, 50, 60.0, "75 %, 75 of 100, 0:01:00, 0:01:00 left"),  # resumed: half was done before
        (100, 100, 0, 60.0, "100 %, 100 of 100, 0:01:00, 0:00:00 left"),
        (7, None, 0, 5.0, "step 7, 0:00:05"),
    ],
)
def test_the_time_left_is_that_of_the_entire_run(done: int, total: int | None, first: int, seconds: float, said: str):
    assert progress_state(done, total, first, seconds) == said


class Line(LightningModule):
    """One weight; says something in every epoch."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.lines = lines

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if batch_idx == 2:
            logging.getLogger("said").warning(self.lines[self.current_epoch])
        return (self.weight * batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def shown(lines: list[str], terminal: bool) -> tuple[str, str]:
    """What a terminal of 100 columns gets from a fit of two epochs, and what goes around it."""
    screen, around = io.StringIO(), io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=100, soft_wrap=True)
    handler = StandardError()
    logging.getLogger("said").addHandler(handler)
    before, sys.stderr = sys.stderr, around
    try:
        trainer = Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
            callbacks=[RunProgressBar(console)],
        )  # fmt: skip
        trainer.fit(Line(lines), DataLoader(torch.ones(8, 1), batch_size=1))
    finally:
        sys.stderr = before
        logging.getLogger("said").removeHandler(handler)
    return screen.getvalue(), around.getvalue()


def test_messages_are_printed_by_the_bar_and_long_ones_are_not_broken():
    long = "resume with: " + "python main.py " * 20
    screen, around = shown(["the first epoch", long], terminal=True)
    assert "the first epoch\n" in screen
    assert f"{long}\n" in screen
    assert "the first epoch" not in around
    assert "epoch 2 of 2" in screen
    assert "100 %, 16 of 16" in screen


def test_without_a_terminal_there_is_no_bar():
    screen, around = shown(["one", "two"], terminal=False)
    assert screen == ""
    assert "one\ntwo\n" in around
