"""Training dynamics: what they take on the disk, and what the callback takes beside the pool's inference alone."""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertModel

from labelbridge.callbacks import CartographyCallback
from labelbridge.lightning_app.dynamics import store
from labelbridge.lightning_app.dynamics.store import ScoredRows

LABELS = ["negative", "neutral", "positive"]
XLMR_LARGE_BYTES = 4 * 560_000_000  # fp32 weights of one checkpoint
ROWS, EPOCHS = 130_000, 15


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def run(full: bool = False) -> dict[str, float | int | str]:
    """`ratio`: 15 XLM-R large checkpoints over the artifact; `overhead`: the callback over plain inference.

    `figure_s` is what the data map, drawn by default, takes beside that after an epoch. On a GPU where there is one.
    """
    rows = 20_000 if full else 4_000
    with tempfile.TemporaryDirectory() as folder:
        size = _artifact_bytes(Path(folder))
        callback_s, inference_s = _overhead(Path(folder) / "bare", rows, figure=False)
        drawn_s, _ = _overhead(Path(folder) / "drawn", rows, figure=True)
    return {
        "ratio": EPOCHS * XLMR_LARGE_BYTES / size, "artifact_mb": size / 1e6, "overhead": callback_s / inference_s,
        "callback_s": callback_s, "inference_s": inference_s, "figure_s": drawn_s - callback_s, "device": DEVICE,
    }  # fmt: skip


def _artifact_bytes(folder: Path) -> int:
    rng = np.random.default_rng(0)
    for epoch in range(EPOCHS):
        logits = 3 * rng.standard_normal((ROWS, len(LABELS)), dtype=np.float32)
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        store.write_epoch(folder / "d", epoch, log_probs, LABELS, "float32")
    store.write_ids(folder / "d", ScoredRows([], [f"pool/train/{row}" for row in range(ROWS)], LABELS))
    return sum(file.stat().st_size for file in (folder / "d").rglob("*.parquet"))


class _Encoder(LightningModule):
    """A small encoder of the real shape of work."""

    def __init__(self) -> None:
        super().__init__()
        self.net = BertModel(
            BertConfig(hidden_size=192, num_hidden_layers=4, num_attention_heads=4, intermediate_size=768)
        )
        self.head = torch.nn.Linear(192, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of a batch."""
        logits: torch.Tensor = self.head(self.net(input_ids=ids).pooler_output)
        return logits.log_softmax(dim=1)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """One step, so that there is an epoch to end."""
        return self(batch[1]).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Anything."""
        return torch.optim.SGD(self.parameters(), lr=0.0)


class _Timed(CartographyCallback):
    seconds = 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Time the whole hook."""
        began = time.perf_counter()
        super().on_train_epoch_end(trainer, pl_module)
        self.seconds = time.perf_counter() - began


def _overhead(folder: Path, rows: int, *, figure: bool) -> tuple[float, float]:
    """Seconds of the callback after an epoch, and of the same rows' inference alone."""
    ids = torch.randint(5, 30_000, (rows, 32), generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(torch.arange(rows), ids), batch_size=128)
    callback = _Timed(
        out=str(folder),
        rows={"pool": ScoredRows(loader, [str(row) for row in range(rows)], LABELS)},
        score=lambda module, batch: (batch[0], module(batch[1])),
        figure=figure,
    )
    module = _Encoder().to(DEVICE)
    trainer = Trainer(
        accelerator=DEVICE, devices=1, max_epochs=1, limit_train_batches=1, callbacks=[callback], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    module.eval()
    with torch.no_grad():
        for _, batch in zip(range(5), loader, strict=False):
            module(batch[1].to(DEVICE))
        began = time.perf_counter()
        for batch in loader:
            module(batch[1].to(DEVICE)).cpu()
        inference = time.perf_counter() - began
    module.train()
    trainer.fit(module, DataLoader(TensorDataset(torch.arange(8), ids[:8]), batch_size=8))
    return callback.seconds, inference
