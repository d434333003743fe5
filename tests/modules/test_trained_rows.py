"""Leaving out the embeddings that never occur changes nothing: neither weights, nor predictions, nor files."""

import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import warm
from conftest import LABELS, Files, Stages
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from labelbridge.datamodules import GoldDataModule
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.modules import TeacherModule
from labelbridge.modules.trained_rows import TrainedRows, train_all_rows, train_rows_that_occur

TASK = Task("sentiment", ["text"], LABELS)
VOCABULARY = 2000


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, tiny_xlmr: Path) -> Path:
    """An encoder that knows far more tokens than occur."""
    folder = tmp_path_factory.mktemp("models") / "wide"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_pretrained(tiny_xlmr)
        model.resize_token_embeddings(VOCABULARY)
        model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_xlmr).save_pretrained(folder)
    return folder


class Seen(Callback):
    """Keeps the optimizer's sizes and the network's kind of embeddings while it is trained."""

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.layer = pl_module.network.get_input_embeddings()
        self.largest = max(weight.shape[0] for weight in trainer.optimizers[0].param_groups[0]["params"])


def fit(files: Files, model: Path, clip: float | None = 1.0, every_row: bool = False, **settings: Any):
    seed_everything(0, verbose=False)
    source = Source(path=str(files.gold))
    data = GoldDataModule(task=TASK, model=str(model), train=source, dev=Source(path=str(files.dev)), batch_size=4)
    if every_row:
        data.training_tokens = lambda: None
    module, seen = TeacherModule(task=TASK, model=str(model), learning_rate=0.01, **settings), Seen()
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, accumulate_grad_batches=2, gradient_clip_val=clip, callbacks=[seen],
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return module.network.state_dict(), seen, dict(trainer.callback_metrics)


@pytest.mark.slow
@pytest.mark.parametrize("clip", [None, 1.0, 0.01])
def test_a_fit_is_the_same_as_with_every_row(files: Files, wide: Path, clip: float | None):
    """To the same bits without clipping; the norm of the gradient adds the same squares in another order."""
    some, seen, metrics = fit(files, wide, clip, dropout=0.1)
    every, seen_every, metrics_every = fit(files, wide, clip, every_row=True, dropout=0.1)
    assert isinstance(seen.layer, TrainedRows)
    assert seen.largest < 200
    assert not isinstance(seen_every.layer, TrainedRows)
    assert seen_every.largest == VOCABULARY
    assert list(some) == list(every)
    for name, weight in every.items():
        if clip is None:
            assert torch.equal(some[name], weight), name
        else:
            torch.testing.assert_close(some[name], weight, rtol=1e-5, atol=1e-6)
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(
        {name: float(value) for name, value in metrics_every.items()}, rel=1e-5
    )


@pytest.mark.parametrize(
    "settings",
    [{"weight_decay": 0.01}, {"frozen_layers": 0}, {"optimizer": partial(torch.optim.SGD, lr=0.1, weight_decay=0.1)}],
)
def test_every_row_is_trained_with_weight_decay_or_another_optimizer_and_none_where_they_are_frozen(
    files: Files, wide: Path, settings: dict[str, Any]
):
    _, seen, _ = fit(files, wide, **settings)
    assert not isinstance(seen.layer, TrainedRows)


def test_an_optimizer_of_ones_own_moves_every_row(files: Files, wide: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(TeacherModule, "configure_optimizers", lambda self: torch.optim.SGD(self.parameters(), 0.1))
    seed_everything(0, verbose=False)
    source, module = Source(path=str(files.gold)), TeacherModule(task=TASK, model=str(wide))
    data = GoldDataModule(task=TASK, model=str(wide), train=source, dev=source)
    Trainer(accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0).fit(module, datamodule=data)  # fmt: skip
    assert "network.roberta.embeddings.word_embeddings.weight" in dict(module.named_parameters())


def test_small_vocabularies_and_shared_embeddings_stay_as_they_are(tiny_xlmr: Path):
    network = AutoModel.from_pretrained(tiny_xlmr)
    size = network.config.vocab_size
    train_rows_that_occur(network, np.arange(size // 2 + 1))
    train_rows_that_occur(network, None)
    network.tied = torch.nn.Linear(16, size, bias=False)
    network.tied.weight = network.get_input_embeddings().weight
    train_rows_that_occur(network, np.arange(3))
    assert type(network.get_input_embeddings()) is torch.nn.Embedding


@pytest.fixture
def pair() -> tuple[torch.nn.Embedding, TrainedRows]:
    """A layer, and one that trains its rows 1, 4 and 7, moved since."""
    layer = torch.nn.Embedding(9, 5, padding_idx=1)
    stand_in = TrainedRows(
        torch.nn.Embedding.from_pretrained(layer.weight.clone(), padding_idx=1), torch.tensor([1, 4, 7])
    )
    with torch.no_grad():
        stand_in.rows.add_(1.0)
        layer.weight[[1, 4, 7]] += 1.0
    return layer, stand_in


def test_in_evaluation_every_token_has_its_row(pair):
    layer, stand_in = pair
    ids = torch.arange(9).reshape(3, 3)
    assert torch.equal(stand_in.eval()(ids), layer(ids))


def test_gradients_are_those_of_the_layer_and_padding_has_none(pair):
    layer, stand_in = pair
    ids = torch.tensor([[4, 7, 4], [1, 7, 1]])
    for one in pair:
        one(ids).square().sum().backward()
    assert torch.equal(stand_in.rows.grad, layer.weight.grad[[1, 4, 7]])
    assert not stand_in.rows.grad[0].any()


def test_a_training_batch_with_another_token_is_refused(pair):
    with pytest.raises(InputError, match="token 3 is in a training batch"):
        pair[1](torch.tensor([[4, 3]]))


def test_its_state_is_that_of_the_layer(pair):
    layer, stand_in = pair
    assert list(stand_in.state_dict()) == ["weight"]
    assert torch.equal(stand_in.state_dict()["weight"], layer.weight)
    other = torch.nn.Embedding(9, 5)
    stand_in.load_state_dict(other.state_dict())
    assert torch.equal(stand_in.whole(), other.weight)
    assert torch.equal(stand_in.rows, other.weight[[1, 4, 7]])
    with pytest.raises(RuntimeError, match="Missing key"):
        stand_in.load_state_dict({})


def test_undone_it_is_an_embedding_layer_again(tiny_xlmr: Path):
    network = AutoModel.from_pretrained(tiny_xlmr).double()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    train_rows_that_occur(network, np.array([5, 1]))
    network.double()
    train_all_rows(network)
    assert type(network.get_input_embeddings()) is torch.nn.Embedding
    assert [name for name, _ in network.named_parameters()] == list(
        dict(AutoModel.from_pretrained(tiny_xlmr).named_parameters())
    )
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--average.every=step"]])
def test_an_export_is_that_of_a_fit_of_every_row(
    stages: Stages, wide: Path, more: list[str], monkeypatch: pytest.MonkeyPatch
):
    words = [f"--model.model={wide}", "--trainer.gradient_clip_val=null", *more]
    assert stages.teacher(*words).code == 0
    monkeypatch.setattr(GoldDataModule, "training_tokens", lambda self: None)
    assert stages.teacher(*words, "--out=every").code == 0
    same_models("teacher", "every")


@pytest.mark.slow
def test_two_processes_give_the_same_fit(stages: Stages, wide: Path, tmp_path: Path):
    """Both train the rows of the entire training set, whatever each of them sees of it."""
    words = ["fit", "--config", "teacher.yaml", *stages.fit_words, f"--model.model={wide}", "--model.dropout=0"]
    assert warm.run([*words, "--out=one"], tmp_path) == 0, warm.said(tmp_path)
    two = ["--trainer.devices=2", "--trainer.strategy=ddp_fork", "--trainer.accumulate_grad_batches=1", "--out=two"]
    assert warm.run([*words, *two], tmp_path) == 0, warm.said(tmp_path)
    assert "rows occur in the training set" in warm.said(tmp_path)
    weights, others = (load_file(f"{out}/model/model.safetensors") for out in ("one", "two"))
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--average.every=step"]])
def test_a_killed_fit_resumes_to_the_same_export(stages: Stages, wide: Path, more: list[str], tmp_path: Path):
    words = ["fit", "--config", "teacher.yaml", *stages.fit_words, f"--model.model={wide}", "--resume.every_n_steps=1"]
    assert warm.run([*words, *more, "--out=whole"], tmp_path) == 0, warm.said(tmp_path)
    kill = warm.probe("KillAt", batch=13, number=int(signal.SIGKILL))
    assert warm.run([*words, *more, *kill, "--out=killed"], tmp_path) == -signal.SIGKILL
    assert warm.run([*words, *more, "--out=killed"], tmp_path) == 0, warm.said(tmp_path)
    same_models("whole", "killed")


def same_models(one: str, two: str) -> None:
    """The same weights under the same names, to the same bits."""
    weights, others = (load_file(f"{out}/model/model.safetensors") for out in (one, two))
    assert list(weights) == list(others)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
