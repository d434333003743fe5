"""AdamW in one kernel where that can be had, clipped gradients everywhere, and optimizers from the configuration."""

from pathlib import Path

import pytest
import torch
from conftest import Stages
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from labelbridge.modules.optimizers import _rise_and_fall, optimizer_and_schedule


class Line(LightningModule):
    """The smallest thing that can be fitted."""

    learning_rate, weight_decay, adam_epsilon, warmup_ratio = 0.1, 0.01, 1e-8, 0.25
    optimizer = lr_scheduler = None

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.layer(batch) - 1).square().mean()

    def configure_optimizers(self):
        return optimizer_and_schedule(self, self)


def fitted(precision: str) -> tuple[Line, Trainer]:
    module = Line()
    trainer = Trainer(
        accelerator="cpu", precision=precision, max_epochs=2, gradient_clip_val=1.0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    trainer.fit(module, DataLoader(rows, batch_size=2))
    return module, trainer


@pytest.mark.parametrize(("precision", "fused"), [("32-true", True), ("bf16-true", True), ("bf16-mixed", True)])
def test_every_precision_can_be_fitted_with_clipping_and_is_fused_where_that_may_be(precision: str, fused: bool | None):
    module, trainer = fitted(precision)
    assert trainer.optimizers[0].param_groups[0]["fused"] is fused
    assert not torch.equal(module.layer.weight.float(), Line().layer.weight)


def test_the_fused_step_is_adamws():
    module, _ = fitted("32-true")
    plain = Line()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.1, eps=1e-8, weight_decay=0.01, fused=False)
    rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    for step in range(8):
        # Two warm-up steps of eight, then down to zero.
        optimizer.param_groups[0]["lr"] = 0.1 * min(step / 2, (8 - step) / 6)
        optimizer.zero_grad()
        plain.training_step(rows[2 * (step % 4) :][:2]).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
    torch.testing.assert_close(module.layer.weight, plain.layer.weight)
    torch.testing.assert_close(module.layer.bias, plain.layer.bias)


RECIPE = """model:
  init_args:
    optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.5, momentum: 0.9}}
    lr_scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 2, gamma: 0.1}}
"""


@pytest.mark.slow
def test_a_config_names_another_optimizer_and_schedule_which_count_in_the_runs_identity(
    stages: Stages, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    Path("sgd.yaml").write_text(RECIPE, encoding="utf-8")
    outcome = stages.teacher("--config=sgd.yaml", "--trainer.max_epochs=1")
    assert outcome.code == 0, outcome.err
    assert "model.optimizer: SGD with lr 0.5; learning_rate, weight_decay and adam_epsilon" in caplog.text
    assert "model.lr_scheduler: StepLR; model.warmup_ratio is not used" in caplog.text
    again = stages.teacher("--config=sgd.yaml", "--trainer.max_epochs=1", "--model.optimizer.momentum=0.8")
    assert again.code == 2
    assert "optimizer" in again.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["optimizer=torch.optim.SDG"], "model.optimizer is 'torch.optim.SDG': module 'torch.optim' has no attribute"),
        (["optimizer=torch.optim.SGD", "optimizer.lr=x"], "model.optimizer.lr is 'x', expected float"),
        (["optimizer=torch.optim.SGD", "optimizer.lr=-1"], "model.optimizer: Invalid learning rate: -1.0; change its"),
        (["optimizer=torch.optim.LBFGS"], "model.optimizer is LBFGS, which computes the loss of a step several times"),
        (["lr_scheduler=torch.optim.lr_scheduler.CosineAnnealingLR"], "model.lr_scheduler.T_max is not given"),
        (["lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau"], "which waits for a metric, expected a schedule"),
    ],
)
def test_what_cannot_move_weights_is_refused_in_one_line(stages: Stages, words: list[str], says: str):
    outcome = stages.teacher(*(f"--model.{word}" for word in words))
    assert (outcome.code, says in outcome.err, len(outcome.err.splitlines())) == (2, True, 1), outcome.err
    assert not Path("teacher").exists()


@pytest.mark.parametrize(("warmup", "steps"), [(0, 7), (3, 10), (10, 10), (0, 1)])
def test_the_usual_schedule_is_that_of_transformers(warmup: int, steps: int):
    from transformers import get_linear_schedule_with_warmup

    peer = get_linear_schedule_with_warmup(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]), warmup, steps)
    factors = [_rise_and_fall(step, warmup=warmup, steps=steps) for step in range(steps + 3)]
    assert factors == [peer.lr_lambdas[0](step) for step in range(steps + 3)]
