"""AdamW in one kernel where that can be had, and clipped gradients everywhere."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from labelbridge.modules.optimizers import adamw_with_linear_decay


class Line(LightningModule):
    """The smallest thing that can be fitted."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.layer(batch) - 1).square().mean()

    def configure_optimizers(self):
        return adamw_with_linear_decay(self, 0.1, 0.01, 1e-8, 0.25)


def fitted(precision: str) -> tuple[Line, Trainer]:
    module = Line()
    trainer = Trainer(
        accelerator="cpu", precision=precision, max_epochs=2, gradient_clip_val=1.0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    trainer.fit(module, DataLoader(rows, batch_size=2))
    return module, trainer


@pytest.mark.parametrize(("precision", "fused"), [("32-true", True), ("bf16-true", True), ("bf16-mixed", None)])
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
