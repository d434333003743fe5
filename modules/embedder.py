"""Sentence embeddings of rows."""

# B = rows of a batch, D = dimensions

from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.models.fingerprints import model_fingerprint
from labelbridge.lightning_app.models.locate import locate


class EmbedderModule(LightningModule):
    """A sentence-transformers model; `predict` gives each row its unit embedding, float32.

    Args:
        task: Text columns and labels.
        model: A sentence-transformers folder or Hub id (LaBSE in the paper), or `bundled` (multilingual-e5-small). A
            plain encoder is given mean pooling.
        trust_remote_code: Whether to run code that comes with the model.
        prefix: Text before every row; null takes the model's own default prompt (`query: ` for E5).
    """

    STAGES: ClassVar[dict[str, str]] = {"predict": "embed"}

    def __init__(self, task: Task, model: str, trust_remote_code: bool = False, prefix: str | None = None) -> None:
        super().__init__()
        self.task = task
        self.model_name = model
        self.trust_remote_code = trust_remote_code
        self.prefix = prefix  # put before the texts by the DataModule, which also has it in its identity
        self.network: nn.Module | None = None

    def identity(self, subcommand: str) -> dict[str, Any]:
        """What of this module determines the rows that a run writes; JSON values."""
        return {"class": type(self).__name__, "task": vars(self.task), "model": model_fingerprint(self.model_name)}

    def check(self, subcommand: str) -> None:
        """Refuse a model that is not there, before any row is read.

        Raises:
            InputError: If there is no such model, or sentence-transformers is not installed.
        """
        locate(self.model_name)
        try:
            import sentence_transformers  # noqa: F401
        except ModuleNotFoundError:
            raise InputError(
                "EmbedderModule: sentence-transformers is not installed; pip install 'labelbridge[selection]'"
            ) from None

    def configure_model(self) -> None:
        """Load the weights, once."""
        if self.network is not None:
            return
        from sentence_transformers import SentenceTransformer

        try:
            network = SentenceTransformer(
                locate(self.model_name), device="cpu", trust_remote_code=self.trust_remote_code
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise InputError(
                f"model {self.model_name}: cannot be loaded ({reason}); give a local folder or a Hub id"
            ) from None
        self.network = network.float().eval()

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Unit embeddings; shape (B, D)."""
        assert self.network is not None, "configure_model loads the network"
        embedding_BD: Tensor = self.network(dict(inputs))["sentence_embedding"]
        return nn.functional.normalize(embedding_BD.to(torch.float32), dim=1)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """One embedding a row."""
        return {"embedding": self(batch["inputs"]).cpu().numpy()}
