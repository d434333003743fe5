"""Sentence embeddings of rows."""

# B = rows of a batch, D = dimensions

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelbridge.lightning_app.core.packages import require
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.models.fingerprints import model_fingerprint
from labelbridge.lightning_app.models.loading import absent_weights, loading, unused_weights
from labelbridge.lightning_app.models.locate import locate
from labelbridge.lightning_app.models.networks import check_complete
from labelbridge.lightning_app.protocols import EncodedBatch, StepRows, batch_rows

from .base import StageModuleBase
from .packing import is_known
from .threads import by_rows, default_threads


class EmbedderModule(StageModuleBase):
    """A sentence-transformers model; `predict` gives each row its unit embedding, float32.

    Args:
        task: Text columns and labels.
        model: A sentence-transformers folder or Hub id (LaBSE in the paper), or `bundled` (multilingual-e5-small). A
            plain encoder is given mean pooling.
        trust_remote_code: Whether to run code that comes with the model.
        prefix: Text before every row; null takes the model's own default prompt (`query: ` for E5).
    """

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
        require("sentence_transformers", "selection", "EmbedderModule")

    def configure_model(self) -> None:
        """Load the weights, once."""
        if self.network is not None:
            return
        from sentence_transformers import SentenceTransformer

        with loading(self.model_name):
            network = SentenceTransformer(
                locate(self.model_name), device="cpu", trust_remote_code=self.trust_remote_code
            )
        self.network = network.float().eval()
        self._check_weights(network)
        with loading(self.model_name, "its embeddings", "give a sentence-transformers folder, or a plain encoder"):
            if not bool(torch.isfinite(network.encode(["A probe."], convert_to_tensor=True)).all()):
                raise ValueError("they hold nan or inf")

    def _check_weights(self, network: nn.Module) -> None:
        """Refuse an encoder that lacks a weight, which the library makes at random without a word.

        Raises:
            InputError: See `check_complete`.
        """
        encoder = self._encoder
        if encoder is not None:
            names = [name for name in encoder.state_dict() if "pooler" not in name]
            folder = Path(str(encoder.name_or_path))
            absent, unused = absent_weights(folder, names), unused_weights(folder, encoder.state_dict())
            check_complete(absent, unused, encoder, self.model_name, "an encoder with all of its weights")
        check_complete((), (), network, self.model_name, "an encoder with all of its weights")

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Unit embeddings; shape (B, D)."""
        known = self._encoder is not None and is_known(self._encoder)
        in_parts = known and not torch.is_grad_enabled() and inputs["input_ids"].device.type == "cpu"
        embedding_BD = by_rows(self._embeddings, inputs, default_threads()) if in_parts else self._embeddings(inputs)
        return nn.functional.normalize(embedding_BD.to(torch.float32), dim=1)

    def _embeddings(self, inputs: dict[str, Tensor]) -> Tensor:
        assert self.network is not None, "configure_model loads the network"
        embedding_BD: Tensor = self.network(dict(inputs))["sentence_embedding"]
        return embedding_BD

    @property
    def _encoder(self) -> Any:
        """The network of the transformers library inside, if there is one."""
        assert self.network is not None, "configure_model loads the network"
        return getattr(next(self.network.children(), None), "auto_model", None)

    def predict_step(self, batch: EncodedBatch, batch_idx: int) -> StepRows:
        """One embedding a row."""
        return batch_rows(batch, {"embedding": self(batch["inputs"]).cpu().numpy()})
