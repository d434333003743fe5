"""With every addition that changes the loss, a window's gradient does not depend on how the window is cut."""

from pathlib import Path

import pytest
import torch
from conftest import LABELS, Files, Stages, labelled
from lightning.pytorch import Trainer, seed_everything
from test_windows_gradient import Record
from torch.nn import functional
from view_files import write_views

from labelbridge.datamodules import MixedDataModule
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.modules import StudentModule

TASK = Task("sentiment", ["text"], LABELS)


@pytest.fixture
def selection(stages: Stages, tiny_classifier: Path) -> str:
    assert stages.pseudolabel(f"--model.model={tiny_classifier}").code == 0
    assert stages.select("--class_from=prompt").code == 0
    write_views(Path("views"), labelled(37, 1))
    return "select"


def run(files: Files, encoder: Path, batch_size: int, accumulate: int, learning_rate: float = 0.0, **settings: object):
    seed_everything(0, verbose=False)
    module = StudentModule(task=TASK, model=str(encoder), learning_rate=learning_rate, dropout=0.0, **settings)
    data = MixedDataModule(
        task=TASK, model=str(encoder), selection="select", train=Source(path=str(files.gold)),
        dev=Source(path=str(files.dev)), batch_size=batch_size, views="views",
        synthetic_labels=settings.get("synthetic_labels", "teacher"),
    )  # fmt: skip
    record = Record()
    trainer = Trainer(
        accelerator="cpu", precision="64-true", max_epochs=1, accumulate_grad_batches=accumulate, callbacks=[record],
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    record.rows.pop()
    return record, module, data


SETTINGS = {
    "soft": {"logit_adjustment": 1.0, "synthetic_logit_adjustment": 1.0, "min_confidence": 0.5, "consistency": 0.5},
    "prompt": {
        "synthetic_labels": "prompt", "logit_adjustment": 1.0, "class_weighting": 0.5, "label_smoothing": 0.1,
        "importance_clip": 2.0, "consistency": 0.5,
    },
    "gce": {"synthetic_labels": "teacher_hard", "gce_q": 0.7, "consistency": 2.0},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", SETTINGS)
def test_a_windows_gradient_does_not_depend_on_how_it_is_cut(files, selection, tiny_bert, kind):
    """Also while the weights move: importance weights are divided by the mean of the window before."""
    whole, *cuts = (
        run(files, tiny_bert, size, accumulate, 1e-3, **SETTINGS[kind])[0]
        for size, accumulate in ((12, 1), (3, 4), (1, 12))
    )
    assert len(whole.gradients) == 5
    for cut in cuts:
        for one, other in zip(whole.gradients, cut.gradients, strict=True):
            assert float((one - other).norm() / one.norm()) < 1e-6


@pytest.mark.slow
def test_consistency_adds_its_own_gradient(files, selection, tiny_bert):
    """Written out anew: lambda N / M times KL(stopgrad p(x) || p(x')) of every pair of the window, over its rows."""
    strength = 0.5
    plain = run(files, tiny_bert, 5, 2)[0]
    record, module, data = run(files, tiny_bert, 5, 2, consistency=strength)
    views = {row["id"]: row["text"] for row in artifacts.read(Path("views")).table.to_pylist()}
    gold = data.train_rows.table.to_pylist()
    network = module.network.eval()

    def log_probs(text: str) -> torch.Tensor:
        return functional.log_softmax(network(**data.tokenizer(text, return_tensors="pt")).logits[0], dim=0)

    assert len(views) == 24
    for rows, without, gradient in zip(record.rows, plain.gradients, record.gradients, strict=True):
        network.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for row in rows:
            if row < 37 and gold[row]["id"] in views:
                log_row, log_view = log_probs(gold[row]["text"]).detach(), log_probs(views[gold[row]["id"]])
                total = total + (log_row.exp() * (log_row - log_view)).sum()
        (strength * 55 / 24 * total / len(rows)).backward()
        expected = torch.cat([one.grad.flatten() for one in network.parameters()])
        assert float((gradient - without - expected).norm() / expected.norm()) < 1e-6
