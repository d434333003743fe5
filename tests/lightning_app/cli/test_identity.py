"""A run is the same only if every setting that counts is: what does not count is listed."""

import inspect
import json
from pathlib import Path

import pytest
from conftest import Stages
from lightning.pytorch import Trainer

from labelbridge import callbacks, datamodules, modules
from labelbridge.__main__ import CALLBACKS
from labelbridge.lightning_app.cli import identity


def parameters(function) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", "args", "kwargs"}


def arguments(cls: type) -> set[str]:
    return set().union(
        *(parameters(base.__init__) for base in cls.__mro__ if base.__module__.startswith("labelbridge."))
    )


def test_what_is_listed_as_harmless_is_a_setting():
    """A name that nothing has any more hides nothing, and a typing error would be one."""
    of_trainer = parameters(Trainer.__init__)
    assert {*identity.TRAINER_HARMLESS, *identity.OF_FIT_ALONE} <= of_trainer
    own_modules = [getattr(modules, name) for name in modules.__all__]
    own_data = [getattr(datamodules, name) for name in datamodules.__all__]
    assert set(identity.MODEL_HARMLESS) <= set().union(*map(arguments, own_modules))
    assert set(identity.DATA_HARMLESS) <= set().union(*map(arguments, own_data))
    for name, harmless in identity.FORCED_HARMLESS.items():
        assert set(harmless) <= parameters(getattr(callbacks, CALLBACKS[name]).__init__), name
    for module in own_modules:
        assert set(getattr(module, "TRAINING_ALONE", ())) <= arguments(modules.StudentModule), module


def test_every_other_setting_counts():
    settings = {name: f"value of {name}" for name in parameters(Trainer.__init__)}
    counted = identity.trainer_settings({**settings, "callbacks": None}, "fit")
    assert set(counted) == set(settings) - {*identity.TRAINER_HARMLESS} | {"callbacks"}
    assert {"fast_dev_run", "max_time", "max_epochs", "limit_train_batches", "overfit_batches"} <= set(counted)
    chosen = {"class_path": "x", "init_args": {"learning_rate": 1, "num_workers": 2, "of_next_year": 3}}
    assert identity.class_settings(chosen, identity.DATA_HARMLESS) == {"learning_rate": 1, "of_next_year": 3}


STOPPING = "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["--trainer.fast_dev_run=true"], "trainer.fast_dev_run: True -> False"),
        (["--trainer.max_time=00:00:01:00"], "trainer.max_time: '00:00:01:00' -> None"),
        (["--trainer.min_steps=1"], "trainer.min_steps: 1 -> None"),
        (["--trainer.limit_train_batches=2"], "trainer.limit_train_batches: 2 -> None"),
        ([STOPPING, "--trainer.callbacks.monitor=dev/loss"], "trainer.callbacks: "),
    ],
)
def test_a_run_that_was_cut_short_never_passes_for_the_real_one(stages: Stages, words: list[str], key: str):
    assert stages.teacher(*words).code == 0
    outcome = stages.teacher()
    assert outcome.code == 2
    assert f"teacher: holds another run ({key}" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--trainer.log_every_n_steps=3"],
        ["--trainer.enable_model_summary=false"],
        ["--data.num_workers=1"],
        ["--data.tokens_per_batch=999"],
        ["--resume.every_minutes=1"],
        ["--trainer.callbacks+=lightning.pytorch.callbacks.DeviceStatsMonitor"],
    ],
)
def test_what_is_harmless_lets_a_run_be_the_same(loop: Stages, words: list[str], caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    assert loop.teacher(*words).code == 0
    assert "teacher: already complete" in caplog.text


@pytest.mark.slow
def test_rows_do_not_depend_on_how_long_a_fit_may_take(loop: Stages, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    assert loop.pseudolabel("--trainer.max_epochs=3", "--trainer.limit_predict_batches=1").code == 0
    assert loop.test("--trainer.max_time=00:00:00:01", "--model.learning_rate=0.5").code == 0
    assert caplog.text.count("already complete") == 2


def test_a_callback_of_ones_own_counts_unless_it_says_that_it_looks_on(stages: Stages, monkeypatch: pytest.MonkeyPatch):
    Path("mine.py").write_text(
        "from lightning.pytorch import Callback\n"
        "class Changes(Callback):\n    def __init__(self, share: float = 0.5): self.share = share\n"
        "class Watches(Callback):\n    LOOKS_ON = True\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    chosen = [
        {"class_path": "mine.Changes", "init_args": {"share": 0.1}},
        {"class_path": "mine.Watches", "init_args": {}},
        {"class_path": "lightning.pytorch.callbacks.RichProgressBar"},
    ]
    assert identity.trainer_settings({"callbacks": chosen}, "predict") == {"callbacks": chosen[:1]}


def test_a_checkpoint_given_by_hand_counts_by_its_content(tmp_path: Path):
    (tmp_path / "a.ckpt").write_bytes(b"one")
    first = identity.checkpoint(str(tmp_path / "a.ckpt"))
    (tmp_path / "a.ckpt").write_bytes(b"two")
    assert identity.checkpoint(str(tmp_path / "a.ckpt")) != first
    assert identity.checkpoint(None) is None


@pytest.mark.slow
def test_an_identity_holds_no_memory_addresses(stages: Stages):
    """One that differs from process to process would keep a run from resuming."""
    assert stages.teacher("--trainer.max_steps=1").code == 0
    said = json.dumps(json.loads(Path("teacher/_identity.json").read_text()))
    assert " at 0x" not in said
