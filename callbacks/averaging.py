"""The mean of a run's weights over its dev checks or steps, checked and exported in the place of the last ones."""

from typing import Annotated, Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from labelbridge.lightning_app.core.ranges import Range, check_ranges


class AverageWeights(Callback):
    """Keeps a running mean of the trained weights; dev checks, and so the exported model, take the mean.

    The mean after n terms w_1 ... w_n is

        sum_i decay^(n-i) w_i / sum_i decay^(n-i)

    With `decay` 1 it is the plain mean: over dev checks, checkpoint averaging (Schmidt et al., arXiv 2305.16834). Below
    1 it is an exponential moving average without bias towards the first weights (the correction of Adam, Kingma and Ba,
    arXiv 1412.6980). It takes one further copy of the trained weights, in float32 or wider. Training goes on from the
    weights themselves, unchanged to the bit; all ranks hold the same mean, and a resumed run goes on with it.

    Args:
        every: What is averaged: the weights at every dev `check`, or after every optimizer `step`; null: nothing.
        start: Share of the optimizer steps after which averaging begins; checks before that take the weights
            themselves. With `every: check`, 0.5 averages the checks of the second half.
        decay: How much less an earlier term counts than the next one.
    """

    @check_ranges("average.")
    def __init__(
        self,
        every: Literal["check", "step"] | None = None,
        start: Annotated[float, Range(least=0, below=1, remedy="a share of the optimizer steps")] = 0.0,
        decay: Annotated[float, Range(above=0, most=1, remedy="1 is the plain mean")] = 1.0,
    ) -> None:
        self.every = every
        self.start = start
        self.decay = decay
        self._mean: dict[str, Tensor] = {}
        self._terms = 0
        self._weights: dict[str, Tensor] | None = None  # the run's own, while the mean stands in for them

    def identity(self) -> dict[str, Any]:
        """What of this callback determines the exported weights; nothing where it is off."""
        return {} if self.every is None else {"every": self.every, "start": self.start, "decay": self.decay}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the weights after an optimizer step."""
        if self.every == "step" and batch["ends_window"]:
            self._add(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the mean in the place of the weights, with those of this check in it."""
        if self.every is None or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if self.every == "check":
            self._add(trainer, pl_module)
        if self._terms:
            self._weights = {}
            for name, parameter in _trained(pl_module).items():
                self._weights[name] = parameter.data
                parameter.data = self._mean[name].to(parameter.dtype)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the run's own weights back; the export has happened by now."""
        if self._weights is not None:
            for name, parameter in _trained(pl_module).items():
                parameter.data = self._weights[name]
            self._weights = None

    def state_dict(self) -> dict[str, Any]:
        """The mean so far."""
        return {"mean": self._mean, "terms": self._terms} if self.every is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the mean so far."""
        self._mean, self._terms = state_dict.get("mean", {}), state_dict.get("terms", 0)

    def _add(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the mean towards the weights by the share that the new term has in it."""
        if trainer.global_step < self.start * trainer.estimated_stepping_batches:
            return
        self._terms += 1
        n, decay = self._terms, self.decay
        share = 1 / n if decay == 1 else (1 - decay) / (1 - decay**n)
        with torch.no_grad():
            for name, parameter in _trained(pl_module).items():
                wide = parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))
                if n == 1:
                    self._mean[name] = wide.clone()
                else:
                    self._mean[name] = self._mean[name].to(wide.device)
                    self._mean[name].lerp_(wide, share)


def _trained(module: LightningModule) -> dict[str, torch.nn.Parameter]:
    """The parameters that the optimizer moves, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
