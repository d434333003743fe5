"""Lazy AdamW: rows without a gradient keep their bits, all others move as by AdamW, and a fit resumes to the bit."""

import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from conftest import LABELS, Files, Stages
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW
from transformers import AutoModel

from labelbridge.datamodules import GoldDataModule
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.modules import TeacherModule
from labelbridge.modules.lazy_adamw import LazyAdamW
from labelbridge.modules.trained_rows import TrainedRows, trained_embeddings

TASK = Task("sentiment", ["text"], LABELS)
ROWS, WIDTH = 12, 24
SETTINGS: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.1}


def start() -> tuple[Parameter, Parameter]:
    """A matrix of embeddings, and another weight."""
    draw = torch.Generator().manual_seed(0)
    return Parameter(torch.randn(ROWS, WIDTH, generator=draw)), Parameter(torch.randn(5, generator=draw))


def gradients(step: int, rows: list[int]) -> tuple[Tensor, Tensor]:
    """Those of a step, of which only the given rows have any."""
    draw = torch.Generator().manual_seed(step + 1)
    matrix = torch.zeros(ROWS, WIDTH)
    matrix[rows] = torch.randn(ROWS, WIDTH, generator=draw)[rows]
    return matrix, torch.randn(5, generator=draw)


def take(optimizer: AdamW, weights: tuple[Parameter, Parameter], step: int, rows: list[int]) -> None:
    for weight, gradient in zip(weights, gradients(step, rows), strict=True):
        weight.grad = gradient
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[-1]["lr"] = 0.05 / (step + 1)
    optimizer.step()


@pytest.mark.parametrize("kernel", [{"fused": True}, {"foreach": True}, {"foreach": False}, {"amsgrad": True}])
def test_with_a_gradient_for_every_row_it_is_adamw_to_the_bit(kernel: dict[str, bool]):
    ours, theirs = start(), start()
    lazy = LazyAdamW([ours[1]], [ours[0]], **SETTINGS, **kernel)
    plain = AdamW(theirs, **SETTINGS, **kernel)
    for step in range(5):
        take(lazy, ours, step, list(range(ROWS)))
        take(plain, theirs, step, list(range(ROWS)))
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)
        for name, value in plain.state[other].items():
            assert torch.equal(lazy.state[mine][name], value), name


@pytest.mark.parametrize("fused", [True, False])
def test_rows_without_a_gradient_keep_weights_and_moments_and_the_others_move_as_by_the_formula(fused: bool):
    weights = start()
    matrix = weights[0]
    optimizer = LazyAdamW([weights[1]], [matrix], **SETTINGS, fused=fused)
    expected = matrix.detach().clone().double()
    mean, square = torch.zeros_like(expected), torch.zeros_like(expected)
    for step, rows in enumerate([[0, 3, 7], [3], [], [3, 11]]):
        before = [matrix.detach().clone(), *(optimizer.state[matrix][name].clone() for name in ("exp_avg", "exp_avg_sq")
                                             if step)]  # fmt: skip
        take(optimizer, weights, step, rows)
        rate, gradient = 0.05 / (step + 1), gradients(step, rows)[0].double()
        for row in rows:
            mean[row] = 0.9 * mean[row] + 0.1 * gradient[row]
            square[row] = 0.999 * square[row] + 0.001 * gradient[row] ** 2
            moved = (mean[row] / (1 - 0.9 ** (step + 1))) / ((square[row] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            expected[row] -= rate * 0.1 * expected[row] + rate * moved
        rest = [row for row in range(ROWS) if row not in rows]
        after = [matrix, *(optimizer.state[matrix][name] for name in ("exp_avg", "exp_avg_sq"))]
        assert all(torch.equal(old[rest], new[rest]) for old, new in zip(before, after, strict=False))
        torch.testing.assert_close(matrix.double(), expected, rtol=1e-5, atol=1e-6)
    assert optimizer.state[matrix]["exp_avg"][[1, 2, 4, 5, 6, 8, 9, 10]].count_nonzero() == 0
    assert [weight for group in optimizer.param_groups for weight in group["params"]] == [weights[1], matrix]
    assert set(optimizer.state) == set(weights)


@pytest.mark.parametrize("fused", [True, False])
def test_it_goes_on_from_its_state_to_the_same_bits(fused: bool):
    steps = [[0, 3], [5], [0, 5, 9], []]
    whole, cut = start(), start()
    optimizer = LazyAdamW([whole[1]], [whole[0]], **SETTINGS, fused=fused)
    for step, rows in enumerate(steps):
        take(optimizer, whole, step, rows)
    first = LazyAdamW([cut[1]], [cut[0]], **SETTINGS, fused=fused)
    for step, rows in enumerate(steps[:2]):
        take(first, cut, step, rows)
    again = LazyAdamW([cut[1]], [cut[0]], **SETTINGS, fused=fused)
    again.load_state_dict(first.state_dict())
    for step, rows in list(enumerate(steps))[2:]:
        take(again, cut, step, rows)
    assert all(torch.equal(one, other) for one, other in zip(whole, cut, strict=True))


def test_a_matrix_without_any_gradient_is_left_alone_and_a_closure_gives_the_loss():
    matrix, weight = start()
    optimizer = LazyAdamW([weight], [matrix], **SETTINGS)
    before = matrix.detach().clone()

    def closure() -> Tensor:
        loss = weight.sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == pytest.approx(float(start()[1].sum()))
    assert torch.equal(matrix, before)
    assert not optimizer.state[matrix]


class Steps(Callback):
    """Keeps the embeddings around every optimizer step, and which rows had a gradient in it."""

    def __init__(self) -> None:
        self.kept = True  # that is: rows without a gradient have kept their bits
        self.unseen = 0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        self.layer = pl_module.network.get_input_embeddings()
        matrix = trained_embeddings(pl_module.network, "tiny")
        self.without = (matrix.grad == 0).all(dim=1)
        self.before = matrix.detach().clone()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch["ends_window"]:
            after = trained_embeddings(pl_module.network, "tiny").detach()
            self.kept &= torch.equal(after[self.without], self.before[self.without])
            self.unseen += int(self.without.sum())
            self.moved = not torch.equal(after, self.before)


def fit(files: Files, model: Path, size: int = 4, accumulate: int = 2, **settings: Any) -> tuple[dict[str, Any], Steps]:
    seed_everything(0, verbose=False)
    data = GoldDataModule(
        task=TASK, model=str(model), train=Source(path=str(files.gold)), dev=Source(path=str(files.dev)),
        batch_size=size,
    )  # fmt: skip
    recipe = {"learning_rate": 0.01, "weight_decay": 0.1, "dropout": 0.0, "lazy_embeddings": True, **settings}
    module, steps = TeacherModule(task=TASK, model=str(model), **recipe), Steps()
    Trainer(
        accelerator="cpu", precision="64-true", max_epochs=2, accumulate_grad_batches=accumulate,
        gradient_clip_val=0.5, callbacks=[steps], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    ).fit(module, datamodule=data)  # fmt: skip
    return module.network.state_dict(), steps


def test_a_fit_with_accumulation_and_clipping_leaves_alone_what_it_has_not_seen(files: Files, tiny_xlmr: Path):
    weights, steps = fit(files, tiny_xlmr)
    assert steps.kept
    assert steps.unseen
    assert steps.moved
    cut, _ = fit(files, tiny_xlmr, size=8, accumulate=1)
    for name, weight in weights.items():
        torch.testing.assert_close(cut[name], weight, rtol=1e-4, atol=1e-5)
    eager, _ = fit(files, tiny_xlmr, lazy_embeddings=False)
    name = "roberta.embeddings.word_embeddings.weight"
    assert not torch.equal(eager[name], weights[name])


def test_rows_that_never_occur_are_left_out_with_weight_decay_too(files: Files, tiny_xlmr: Path, tmp_path: Path):
    network = AutoModel.from_pretrained(tiny_xlmr)
    network.resize_token_embeddings(2000)
    for file in tiny_xlmr.glob("token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    network.save_pretrained(tmp_path)
    weights, steps = fit(files, tmp_path)
    assert isinstance(steps.layer, TrainedRows)
    rows = weights["roberta.embeddings.word_embeddings.weight"]
    assert torch.equal(rows[1000:].float(), network.get_input_embeddings().weight[1000:])


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"frozen_layers": 0}, "frozen_layers"), ({"optimizer": partial(torch.optim.SGD, lr=0.1)}, "optimizer")],
)
def test_frozen_embeddings_and_other_optimizers_are_refused(tiny_xlmr: Path, settings: dict[str, Any], named: str):
    module = TeacherModule(task=TASK, model=str(tiny_xlmr), lazy_embeddings=True, **settings)
    with pytest.raises(InputError, match=f"model.lazy_embeddings is true and model.{named} is given, expected"):
        module.check("fit")


def test_shared_embeddings_are_refused(tiny_xlmr: Path):
    network = AutoModel.from_pretrained(tiny_xlmr)
    network.tied = torch.nn.Linear(16, network.config.vocab_size, bias=False)
    network.tied.weight = network.get_input_embeddings().weight
    with pytest.raises(InputError, match=r"are shared \(embeddings.word_embeddings.weight and tied.weight\), expected"):
        trained_embeddings(network, "tiny")
    network.set_input_embeddings(torch.nn.Linear(3, 3))
    with pytest.raises(InputError, match="word embeddings of tiny are a Linear, expected an embedding layer"):
        trained_embeddings(network, "tiny")


@pytest.mark.slow
def test_a_killed_fit_resumes_to_the_same_export_and_the_setting_counts(stages: Stages, tmp_path: Path):
    words = [
        "fit", "--config", "teacher.yaml", *stages.fit_words, "--model.lazy_embeddings=true",
        "--model.weight_decay=0.1", "--trainer.accumulate_grad_batches=2", "--resume.every_n_steps=1",
    ]  # fmt: skip
    assert warm.run([*words, "--out=whole"], tmp_path) == 0, warm.said(tmp_path)
    kill = warm.probe("KillAt", batch=13, number=int(signal.SIGKILL))
    assert warm.run([*words, *kill, "--out=killed"], tmp_path) == -signal.SIGKILL
    assert warm.run([*words, "--model.lazy_embeddings=false", "--out=killed"], tmp_path) == 2
    assert "lazy_embeddings" in warm.said(tmp_path)
    assert warm.run([*words, "--out=killed"], tmp_path) == 0, warm.said(tmp_path)
    weights, others = (load_file(f"{out}/model/model.safetensors") for out in ("whole", "killed"))
    assert list(weights) == list(others)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
