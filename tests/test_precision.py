"""Mixed bfloat16 is the default where the device multiplies in it, and nowhere else."""

from pathlib import Path

import pytest
import torch
from conftest import Stages

from labelbridge.lightning_app.cli.lightning_cli import bf16_device
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
