"""The gradient of an optimizer step is that of the window's formula, however it is cut."""

from pathlib import Path

import pytest
import torch
from conftest import LABELS, Files, Stages
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from torch.nn import functional

from labelbridge.datamodules import MixedDataModule
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.modules import StudentModule

TASK = Task("sentiment", ["text"], LABELS)


class Record(Callback):
    """Keeps each window's gradient, and the rows that went into it."""

    def __init__(self) -> None:
        self.gradients: list[torch.Tensor] = []
        self.rows: list[list[int]] = [[]]

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.rows[-1] += batch["row"][batch["real"]].tolist()
        if batch["ends_window"]:
            self.rows.append([])

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients.append(torch.cat([one.grad.flatten() for one in module.parameters()]).clone())


@pytest.fixture
def selection(stages: Stages, tiny_classifier: Path) -> str:
    assert stages.pseudolabel(f"--model.model={tiny_classifier}").code == 0
    assert stages.select("--class_from=prompt").code == 0
    return "select"


def run(files: Files, selection: str, encoder: Path, batch_size: int, accumulate: int, **objective: str):
    seed_everything(0, verbose=False)
    module = StudentModule(task=TASK, model=str(encoder), learning_rate=0.0, dropout=0.0, **objective)
    data = MixedDataModule(
        task=TASK, model=str(encoder), selection=selection, train=Source(path=str(files.gold)),
        dev=Source(path=str(files.dev)), batch_size=batch_size, synthetic_labels=objective.get("synthetic_labels", "teacher"),
    )  # fmt: skip
    record = Record()
    trainer = Trainer(
        accelerator="cpu", precision="64-true", max_epochs=2, accumulate_grad_batches=accumulate, callbacks=[record],
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    record.rows.pop()
    return record, module, data


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["teacher", "teacher_hard", "prompt"])
@pytest.mark.parametrize("objective", ["paper", "released"])
def test_a_windows_gradient_does_not_depend_on_how_it_is_cut(files, selection, tiny_bert, objective, labels):
    kind = {"objective": objective, "synthetic_labels": labels}
    whole, *cuts = (
        run(files, selection, tiny_bert, size, accumulate, **kind)[0]
        for size, accumulate in ((12, 1), (6, 2), (3, 4), (1, 12))
    )
    assert len(whole.gradients) == 10
    for cut in cuts:
        assert [sorted(rows) for rows in cut.rows] == [sorted(rows) for rows in whole.rows]
        for one, other in zip(whole.gradients, cut.gradients, strict=True):
            assert float((one - other).norm() / one.norm()) < 1e-6


@pytest.mark.slow
def test_a_windows_gradient_is_that_of_equation_1(files, selection, tiny_bert):
    """Written out anew: sum of w_i loss_i over the window's rows, divided by their number."""
    record, module, data = run(files, selection, tiny_bert, 5, 2)
    n_gold, n_synthetic = 37, 18
    label = data.labels(data.train_rows)
    probs = data.probs_NC.double()
    network = module.network.eval()
    for rows, gradient in zip(record.rows, record.gradients, strict=True):
        network.zero_grad()
        total = 0.0
        for row in rows:
            encoded = data.encoded["train"]
            ids = encoded.features["input_ids"][encoded.starts[row] : encoded.starts[row + 1]]
            logits = network(input_ids=torch.tensor(ids).long()[None]).logits[0]
            if row < n_gold:
                loss = functional.cross_entropy(logits, label[row]) * 55 / n_gold
            else:
                log_student = functional.log_softmax(logits / 1.5, dim=0)
                divergence = functional.kl_div(log_student, probs[row - n_gold], reduction="sum")
                loss = divergence * 55 / (3 * n_synthetic)
            total = total + loss / len(rows)
        total.backward()
        expected = torch.cat([one.grad.flatten() for one in network.parameters()])
        assert float((gradient - expected).norm() / expected.norm()) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["gold", "selection"])
def test_an_absent_set_drops_its_term(files, selection, tiny_bert, gone):
    """|D| = 0 and |D'| = 0: the windows hold the other set alone, and gradients stay finite."""
    if gone == "gold":
        data = MixedDataModule(
            task=TASK, model=str(tiny_bert), selection=selection, train=[], dev=Source(path=str(files.dev))
        )
    else:
        import shutil

        from labelbridge.lightning_app.core import artifacts

        read = artifacts.read(Path(selection))
        shutil.rmtree("empty", ignore_errors=True)
        artifacts.write(Path("empty"), read.table[:0], stage="select", facts=read.manifest.facts)
        data = MixedDataModule(
            task=TASK,
            model=str(tiny_bert),
            selection="empty",
            allow_empty=True,
            train=Source(path=str(files.gold)),
            dev=Source(path=str(files.dev)),
        )
    record = Record()
    module = StudentModule(task=TASK, model=str(tiny_bert), learning_rate=0.01)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[record], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert sum(map(len, record.rows)) == (18 if gone == "gold" else 37)
    assert all(torch.isfinite(one).all() and one.norm() > 0 for one in record.gradients)
