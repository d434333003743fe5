"""The best check by source-dev accuracy is what is exported."""

import json
import os
from pathlib import Path

import pytest
from conftest import Stages

from labelbridge.callbacks import ExportBest


class Stub:
    """As much of a Trainer as the callback asks for."""

    def __init__(self, accuracy: float, step: int) -> None:
        self.callback_metrics = {"dev/accuracy": accuracy}
        self.global_step = step
        self.current_epoch = 0
        self.sanity_checking = False
        self.is_global_zero = True
        self.state = type("State", (), {"fn": "fit"})()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    steps: list[int] = []
    monkeypatch.setattr(ExportBest, "export", lambda self, trainer, module: steps.append(trainer.global_step))
    return steps


def check(callback: ExportBest, accuracy: float, step: int) -> None:
    callback.on_validation_end(Stub(accuracy, step), None)  # type: ignore[arg-type]


def test_only_a_better_check_is_exported(tmp_path: Path, exported: list[int]):
    callback = ExportBest(str(tmp_path))
    for step, accuracy in enumerate([0.5, 0.4, 0.5, 0.6, 0.6]):
        check(callback, accuracy, step)
    assert exported == [0, 3]  # the first of equal checks stays


def test_a_resumed_run_remembers_the_best(tmp_path: Path, exported: list[int]):
    first = ExportBest(str(tmp_path))
    check(first, 0.7, 1)
    second = ExportBest(str(tmp_path))
    second.load_state_dict(first.state_dict())
    check(second, 0.6, 2)
    assert exported == [1]


def test_a_monitor_can_go_down(tmp_path: Path, exported: list[int]):
    callback = ExportBest(str(tmp_path), monitor="dev/accuracy", mode="min")
    check(callback, 0.5, 0)
    check(callback, 0.4, 1)
    assert exported == [0, 1]


def test_an_exchange_that_was_cut_short_is_put_right(tmp_path: Path):
    """Between the two renames only the previous model is there."""
    (tmp_path / ".model.previous").mkdir()
    (tmp_path / ".model.previous" / "config.json").write_text("{}")
    trainer = type("T", (), {"is_global_zero": True})()
    ExportBest(str(tmp_path)).setup(trainer, None, "fit")  # type: ignore[arg-type]
    assert (tmp_path / "model" / "config.json").exists()
    assert not (tmp_path / ".model.previous").exists()


@pytest.mark.slow
def test_the_last_of_a_few_steps_is_checked(stages: Stages):
    """Else a fit that ends in mid-epoch would have no model."""
    assert stages.teacher("--trainer.max_epochs=-1", "--trainer.max_steps=3").code == 0
    assert json.loads(Path("teacher/model/labelbridge.json").read_text())["step"] == 3


@pytest.mark.slow
def test_the_card_says_which_check_was_best(stages: Stages):
    assert stages.teacher().code == 0
    facts = json.loads(Path("teacher/model/labelbridge.json").read_text())
    card = Path("teacher/model/README.md").read_text()
    assert facts["method"] == "SRC"
    assert f"optimizer step {facts['step']}, chosen by accuracy" in card
    assert f"accuracy {facts['dev']['dev/accuracy']:.4f}" in card
    assert not list(Path("teacher").rglob("*.ckpt"))  # checkpoints exist only to resume


@pytest.mark.slow
def test_an_export_in_bfloat16_is_half_as_large_and_loads_as_any_other(stages: Stages):
    """Training is not touched: the exported weights are those of a float32 export, rounded."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    assert stages.teacher().code == 0
    assert stages.teacher("--export.dtype=bfloat16", "--out=rounded").code == 0
    exact, rounded = (load_file(f"{out}/model/model.safetensors") for out in ("teacher", "rounded"))
    assert all(torch.equal(rounded[name], tensor.bfloat16()) for name, tensor in exact.items())
    assert AutoModelForSequenceClassification.from_pretrained("rounded/model").dtype == torch.bfloat16
    refused = stages.teacher("--export.dtype=bfloat16")
    assert refused.code == 2
    assert "export.dtype: 'float32' -> 'bfloat16'" in refused.err


@pytest.mark.slow
def test_frozen_layers_come_out_as_they_went_in(stages: Stages, tiny_bert: Path):
    import torch
    from safetensors.torch import load_file

    assert stages.teacher("--model.frozen_layers=1").code == 0
    before, after = load_file(tiny_bert / "model.safetensors"), load_file("teacher/model/model.safetensors")
    frozen = {name: tensor for name, tensor in before.items() if name.startswith(("embeddings.", "encoder.layer.0."))}
    assert len(frozen) > 10
    assert all(torch.equal(after[f"bert.{name}"], tensor) for name, tensor in frozen.items())
    assert not torch.equal(after["bert.pooler.dense.weight"], before["pooler.dense.weight"])


@pytest.mark.slow
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_weights_are_written_with_the_users_umask(stages: Stages, umask: int, mode: int):
    before = os.umask(umask)
    try:
        assert stages.teacher("--trainer.max_epochs=1").code == 0
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in Path("teacher/model").iterdir()}
    assert set(modes.values()) == {mode}, modes
