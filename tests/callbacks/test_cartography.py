"""The callback scores every row once an epoch, and the training does not notice."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import LABELS, Stages, labelled, write_jsonl
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from labelbridge.callbacks import CartographyCallback
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.dynamics.store import Dynamics, ScoredRows, read_dynamics


@pytest.mark.slow
def test_the_training_does_not_notice(stages: Stages):
    """Dropout on, so that a single draw more or less would show."""
    words = ("--model.dropout=0.3", "--trainer.max_epochs=3")
    assert stages.teacher(*words).code == 0
    more = (f"--data.pool.path={stages.files.pool}", "--data.gold_dynamics=true", "--cartography.before_training=true",
            "--cartography.every_n_steps=2")  # fmt: skip
    assert stages.teacher(*words, *more, "--out=mapped").code == 0
    assert Path("teacher/model/model.safetensors").read_bytes() == Path("mapped/model/model.safetensors").read_bytes()


@pytest.mark.slow
def test_the_last_epoch_is_what_predict_says(stages: Stages, task: Task):
    assert stages.teacher(f"--data.pool.path={stages.files.pool}", "--trainer.max_epochs=1").code == 0
    assert stages.pseudolabel().code == 0
    read = read_dynamics(Path("teacher/dynamics"), task)
    predicted = artifacts.read(Path("pseudolabel")).table
    assert read.ids == predicted["id"].to_pylist()
    assert read.log_probs_ENC.shape == (1, 50, 3)
    np.testing.assert_allclose(np.exp(read.log_probs_ENC[-1]), predicted["probs"].to_pylist(), atol=1e-6)
    assert read.manifest.facts["reference"] == "most likely class after the last epoch"


@pytest.mark.slow
def test_dynamics_feed_the_selection(stages: Stages):
    assert stages.teacher(f"--data.pool.path={stages.files.pool}").code == 0
    assert stages.pseudolabel().code == 0
    for strategy in ("ambiguous", "easy", "ccs"):
        outcome = stages.select(f"--strategy={strategy}", "--dynamics=teacher/dynamics", f"--out={strategy}")
        assert outcome.code == 0, outcome.err
        assert artifacts.read(Path(strategy)).manifest.lineage["dynamics"]
    released = stages.select("--strategy=easy", "--variant=released", "--dynamics=teacher/dynamics", "--out=released")
    assert released.code == 0
    assert artifacts.read_manifest(Path("released")).facts["class_from"] == "last_epoch"


@pytest.mark.slow
def test_dynamics_of_another_pool_are_refused(stages: Stages):
    assert stages.teacher(f"--data.pool.path={stages.files.pool}").code == 0
    write_jsonl(stages.files.pool, labelled(50, 33, "prompt_label"))
    assert stages.pseudolabel().code == 0
    outcome = stages.select("--strategy=easy", "--dynamics=teacher/dynamics")
    assert outcome.code == 2
    assert "teacher/dynamics: built from another pool" in outcome.err


@pytest.mark.slow
def test_the_data_map_is_drawn(stages: Stages):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = (f"--data.pool.path={stages.files.pool}", "--trainer.logger=true")
    assert stages.teacher(*words).code == 0
    assert Path("teacher/data_map.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in Path("teacher/data_map.svg").read_text()
    events = EventAccumulator("teacher/_logs")
    events.Reload()
    assert len(events.Images("figures/data_map/pool")) == 2


class Bare(LightningModule):
    """Somebody else's module, which knows nothing of this project."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return torch.nn.functional.cross_entropy(self.net(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("dev", torch.nn.functional.cross_entropy(self.net(x), y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@dataclass(frozen=True)
class Project:
    """Somebody else's data, loaders and Trainer."""

    folder: Path
    x: torch.Tensor
    y: torch.Tensor

    def loader(self, **options) -> DataLoader:
        return DataLoader(TensorDataset(torch.arange(len(self.x)), self.x), **{"batch_size": 5, **options})

    def callback(self, loader: DataLoader | None = None, **options) -> CartographyCallback:
        rows = ScoredRows(
            loader or self.loader(), [f"row{n}" for n in range(len(self.x))], LABELS, reference=self.y.numpy()
        )
        return CartographyCallback(**{"out": str(self.folder), "rows": {"train": rows}, "score": log_probs, **options})

    def fit(self, *callbacks: Callback, ckpt_path: Path | None = None, by_chance: bool = True, **options) -> Bare:
        """A fit with shuffled rows and dropout, unless it is not to be `by_chance`: Lightning resumes neither."""
        seed_everything(1, verbose=False)
        module = Bare()
        module.net[1].p = 0.5 if by_chance else 0.0
        usual = {"accelerator": "cpu", "max_epochs": 3, "logger": False, "enable_checkpointing": False}
        trainer = Trainer(
            callbacks=list(callbacks), enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=self.folder, **{**usual, **options},
        )  # fmt: skip
        data = DataLoader(TensorDataset(self.x, self.y), batch_size=7, shuffle=by_chance)
        dev = DataLoader(TensorDataset(self.x, self.y), batch_size=7)
        trainer.fit(module, data, dev, ckpt_path=ckpt_path)
        return module

    def dynamics(self) -> Dynamics:
        return read_dynamics(self.folder / "dynamics-train", Task("t", ["text"], LABELS))


def log_probs(module: Bare, batch: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return batch[0], module.net(batch[1]).log_softmax(dim=1)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """21 rows of 4 numbers: three steps an epoch."""
    generator = torch.Generator().manual_seed(0)
    return Project(tmp_path, torch.randn(21, 4, generator=generator), torch.randint(3, (21,), generator=generator))


@pytest.mark.slow
def test_it_serves_a_bare_lightning_module(project: Project):
    module, plain = project.fit(project.callback()), project.fit()
    for one, other in zip(module.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)
    read = project.dynamics()
    expected = module.eval().net(project.x).log_softmax(dim=1)
    np.testing.assert_allclose(read.log_probs_ENC[-1], expected.detach().numpy(), atol=1e-6)
    assert read.manifest.facts["epochs"] == 3
    assert read.manifest.facts["reference"] == "gold label"
    assert read.reference_N.tolist() == project.y.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_no_precision_notices(project: Project, precision: str):
    module, plain = (project.fit(*callbacks, precision=precision) for callbacks in ([project.callback()], []))
    for one, other in zip(module.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)
    expected = module.eval().float().net(project.x).log_softmax(dim=1)
    np.testing.assert_allclose(project.dynamics().log_probs_ENC[-1], expected.detach().numpy(), atol=0.05)


@pytest.mark.slow
def test_checks_say_after_which_step_and_no_weights_are_scored_twice(project: Project):
    """Three epochs of three steps: the sixth ends an epoch."""
    project.fit(project.callback(before_training=True, every_n_steps=2))
    read = project.dynamics()
    assert read.manifest.facts["steps"] == [0, 2, 3, 4, 6, 8, 9]
    assert len(np.unique(read.log_probs_ENC[:, 0, 0])) == 7


@pytest.mark.slow
def test_micro_batches_of_a_step_are_not_scored_each(project: Project):
    """Windows of two micro-batches of seven rows: two steps an epoch, the second one shorter."""
    project.fit(project.callback(every_n_steps=1), accumulate_grad_batches=2)
    assert project.dynamics().manifest.facts["steps"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_one_callback_serves_one_fit_after_another(project: Project):
    callback = project.callback()
    project.fit(callback)
    first = project.dynamics().log_probs_ENC
    project.fit(callback, max_epochs=2)
    assert np.array_equal(project.dynamics().log_probs_ENC, first[:2])


@pytest.mark.slow
@pytest.mark.parametrize("moment", [{}, {"save_on_train_epoch_end": True}, {"every_n_train_steps": 2}])
def test_a_bare_project_resumes_to_the_same_dynamics(project: Project, moment: dict):
    """Whether Lightning's own checkpoint falls before the epoch's end, behind it, or in the middle of an epoch."""
    saver = ModelCheckpoint(project.folder / "ckpt", save_top_k=-1, filename="{step}", **moment)
    project.fit(project.callback(), saver, enable_checkpointing=True, by_chance=False)
    whole = project.dynamics()
    for step in (6, 4 if "every_n_train_steps" in moment else 3):
        project.fit(project.callback(), ckpt_path=project.folder / f"ckpt/step={step}.ckpt", by_chance=False)
        resumed = project.dynamics()
        assert resumed.manifest.facts["steps"] == whole.manifest.facts["steps"] == [3, 6, 9], step
        # In mid-epoch a plain loader starts anew, says Lightning: only what was there before is the same.
        same = 1 if step == 4 else 3
        assert np.array_equal(resumed.log_probs_ENC[:same], whole.log_probs_ENC[:same]), step


class EvenedOut:
    """A loader whose sampler is made when the ranks are known."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def __iter__(self):
        return iter(self.project.loader(sampler=DistributedSampler(range(21), shuffle=False)))


@pytest.mark.slow
@pytest.mark.parametrize("loader", ["plain", "distributed"])
def test_two_processes_score_each_row_once(project: Project, loader: str):
    """21 rows on two ranks: a DistributedSampler repeats one."""
    project.fit(project.callback(before_training=True))
    one = project.dynamics()
    shared = project.callback(None if loader == "plain" else EvenedOut(project), before_training=True)
    project.fit(shared, devices=2, strategy="ddp_fork")
    two = project.dynamics()
    assert two.log_probs_ENC.shape == one.log_probs_ENC.shape == (4, 21, 3)
    assert two.ids == one.ids
    # The weights of the first check are the same on both; after it two ranks train on other batches.
    np.testing.assert_allclose(two.log_probs_ENC[0], one.log_probs_ENC[0], atol=1e-6)
    assert not list((project.folder / "dynamics-train").glob(".rank*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"score": lambda module, batch: (batch[0], module.net(batch[1]).softmax(dim=1))}, "expected 1; return log-prob"),
        ({"score": lambda module, batch: (batch[0], module.net(batch[1]) * torch.nan)}, "row 'row0': score gave .nan"),
        ({"score": lambda module, batch: (batch[0], torch.zeros(len(batch[0]), 1))}, "expected one for each of"),
        ({"score": None}, "Bare has no score_rows.batch.; give CartographyCallback a `score`"),
    ],
)  # fmt: skip
def test_what_is_not_log_probabilities_is_refused(project: Project, options: dict, said: str):
    with pytest.raises((ValueError, TypeError), match=said):
        project.fit(project.callback(**options))


def test_a_loader_that_skips_rows_is_refused(project: Project):
    with pytest.raises(ValueError, match="20 rows scored, expected each of 21 once"):
        project.fit(project.callback(project.loader(drop_last=True)))


def test_rows_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="'b' stands twice"):
        ScoredRows([], ["a", "b", "b"], LABELS)
    with pytest.raises(ValueError, match="reference: 1 labels, expected one for each of 2 ids"):
        ScoredRows([], ["a", "b"], LABELS, reference=np.array([0]))


@pytest.mark.slow
def test_other_dynamics_are_another_run(stages: Stages):
    words = (f"--data.pool.path={stages.files.pool}", "--trainer.max_epochs=1")
    assert stages.teacher(*words).code == 0
    for more, said in (
        ("--cartography.dtype=float16", "cartography.dtype: 'float32' -> 'float16'"),
        ("--data.gold_dynamics=true", "data.gold_dynamics: False -> True"),
    ):
        outcome = stages.teacher(*words, more)
        assert outcome.code == 2
        assert f"teacher: holds another run ({said})" in outcome.err


@pytest.mark.slow
def test_gold_rows_keep_their_label(stages: Stages, task: Task):
    assert (
        stages.teacher("--data.gold_dynamics=true", "--trainer.max_epochs=1", "--cartography.dtype=float16").code == 0
    )
    read = read_dynamics(Path("teacher/dynamics-gold"), task)
    assert [LABELS[one] for one in read.reference_N] == [row["label"] for row in labelled(37, 1)]
    assert read.manifest.facts["dtype"] == "float16"
