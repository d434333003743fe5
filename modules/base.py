"""What the modules of all stages share; see `labelbridge.lightning_app.protocols.StageModule`."""

from typing import Any, ClassVar

from lightning.pytorch import LightningModule


class StageModuleBase(LightningModule):
    """A module, and what the commands ask of it; subclasses set `model_name`."""

    HAS_FILES: ClassVar[bool] = True
    TRAINING_ALONE: ClassVar[tuple[str, ...]] = ()
    HALF_WEIGHTS: ClassVar[bool] = False

    model_name: str

    @property
    def model_paths(self) -> list[str]:
        """Where the model is read from."""
        return [self.model_name]

    @property
    def further_models(self) -> list[str]:
        """The names of models whose outputs are averaged with this one's."""
        return []

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the rows or weights that a run writes, its model by its name; JSON values."""
        return {"class": type(self).__name__, "model": f"named:{self.model_name}"}

    def check(self, subcommand: str) -> None:
        """Refuse a model that cannot serve, before any row is read."""

    def facts(self) -> dict[str, Any]:
        """What the manifest says about the model; JSON values."""
        return {}
