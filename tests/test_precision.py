"""bfloat16 is the default where the device multiplies in it, and nowhere else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Stages

from labelbridge.lightning_app.cli.lightning_cli import bf16_device
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.artifacts import read_manifest

pytestmark = pytest.mark.slow


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch):
    """Makes this CPU look like another one."""

    def pretend(capability: str, **units: bool) -> None:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)

    return pretend


def precision_of(stages: Stages, *words: str) -> str:
    outcome = stages.teacher("--trainer.accelerator=auto", *words)
    assert outcome.code == 0, outcome.err
    return read_manifest(Path("teacher")).config["trainer"]["precision"]


@pytest.mark.parametrize("unit", ["amx_bf16", "avx512_bf16"])
def test_a_cpu_with_bfloat16_units_trains_in_mixed_bfloat16(unit: str, stages: Stages, cpu, caplog):
    cpu("AVX512", **{unit: True})
    caplog.set_level("INFO")
    assert precision_of(stages) == "bf16-mixed"
    assert "trainer.precision: bf16-mixed" in caplog.text


def test_nothing_is_said_where_torch_computes_nothing(stages: Stages, cpu, caplog):
    cpu("AVX512", amx_bf16=True)
    caplog.set_level("INFO")
    words = ("predict", "--config=translate.yaml", "--data.rows.path=data/gold.jsonl", "--out=translated")
    outcome = stages.cli(*words, "--trainer.enable_progress_bar=false")
    assert outcome.code == 0, outcome.err
    assert "trainer.precision" not in caplog.text


def test_rows_are_scored_with_bfloat16_weights(stages: Stages, cpu):
    cpu("AVX2", amx_bf16=False)
    assert precision_of(stages) == "32-true"
    cpu("AVX512", amx_bf16=True)
    probs = {}
    for out, words in {"half": [], "exact": ["--trainer.precision=32-true"]}.items():
        outcome = stages.test("--trainer.accelerator=auto", "--model.model=teacher/model", f"--out={out}", *words)
        assert outcome.code == 0, outcome.err
        probs[out] = np.array(artifacts.read(Path(out)).table["probs"].to_pylist())
    assert artifacts.read_manifest(Path("half")).config["trainer"]["precision"] == "bf16-true"
    assert np.abs(probs["half"] - probs["exact"]).max() < 0.1  # a tiny network with large weights
    assert not np.array_equal(probs["half"], probs["exact"])
    assert probs["half"].sum(axis=1) == pytest.approx(1, abs=1e-6)  # the softmax is in float32


def test_32_true_turns_it_off(stages: Stages, cpu):
    cpu("AVX512", amx_bf16=True)
    assert precision_of(stages, "--trainer.precision=32-true") == "32-true"


def test_other_cpus_and_torch_held_to_older_instructions_train_in_float32(stages: Stages, cpu):
    cpu("AVX512", amx_bf16=False)
    assert precision_of(stages) == "32-true"
    cpu("AVX2", amx_bf16=True)
    assert precision_of(stages) == "32-true"  # the same run: complete already


@pytest.mark.parametrize(("has_units", "device"), [(True, "GPU"), (False, None)])
def test_a_gpu_is_asked_where_the_run_is_on_it(
    has_units: bool, device: str | None, cpu, monkeypatch: pytest.MonkeyPatch
):
    cpu("AVX512", amx_bf16=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_units)
    assert [bf16_device(name) for name in (None, "auto", "gpu", "cuda")] == [device] * 4
    assert bf16_device("cpu") == "CPU"
