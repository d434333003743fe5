"""Energy by fake counters of processors and of a GPU."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import Stages
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from labelbridge.callbacks import energy
from labelbridge.callbacks.energy import Counter, EnergyMeter, counters_of, gpu_counters, processor_counters


def domain(folder: Path, number: str, name: str, microjoules: int, limit: int = 1_000_000_000) -> Path:
    path = folder / f"intel-rapl:{number}"
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{limit}\n")
    return path / "energy_uj"


class NVMLError(Exception):
    """As pynvml's."""


def fake_nvml(monkeypatch: pytest.MonkeyPatch, millijoules: dict[str, int]) -> None:
    def total(handle: str) -> int:
        if handle not in millijoules:
            raise NVMLError("Not Supported")
        return millijoules[handle]

    package = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=total,
    )
    monkeypatch.setitem(sys.modules, "pynvml", package)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=f"u{device.index}"))


def test_a_meter_adds_up_what_counters_count_from_its_creation_on():
    values = iter([100.0, 3700.0, 7300.0])
    meter = EnergyMeter([Counter(lambda: next(values))])
    assert meter.watt_hours() == pytest.approx(1)
    assert meter.watt_hours() == pytest.approx(2)


def test_without_counters_nothing_is_known():
    assert EnergyMeter([]).watt_hours() is None


def test_packages_and_memory_count_and_what_they_contain_does_not(tmp_path: Path):
    files = [domain(tmp_path, "0", "package-0", 0), domain(tmp_path, "1", "package-1", 0)]
    files.append(domain(tmp_path, "0:2", "dram", 0))
    within = [domain(tmp_path, "0:0", "core", 0), domain(tmp_path, "2", "psys", 0)]
    meter = EnergyMeter(processor_counters(tmp_path))
    for file in [*files, *within]:
        file.write_text(f"{36_000_000}\n")
    assert meter.watt_hours() == pytest.approx(3 * 0.01)


def test_a_counter_that_starts_over_loses_nothing(tmp_path: Path):
    file = domain(tmp_path, "0", "package-0", 999_000_000)
    meter = EnergyMeter(processor_counters(tmp_path))
    file.write_text("35000000\n")
    assert meter.watt_hours() == pytest.approx(0.01)


def test_a_counter_is_read_each_minute_and_not_with_every_batch(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(energy.time, "monotonic", lambda: now[0])
    values = [0.0, 3600.0, 1200.0]
    meter = EnergyMeter([Counter(lambda: values.pop(0), limit=3600)])
    meter.keep_up()
    assert len(values) == 2
    now[0] = 61
    meter.keep_up()
    assert len(values) == 1
    assert meter.watt_hours() == pytest.approx(1 + 1 / 3)


def test_one_counter_that_may_not_be_read_leaves_no_partial_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    domain(tmp_path, "0", "package-0", 0)
    second = domain(tmp_path, "1", "package-1", 0)
    assert len(processor_counters(tmp_path)) == 2
    read_text = Path.read_text

    def refuse(path: Path, *args, **kwargs) -> str:
        if path == second:
            raise PermissionError(13, "Permission denied")
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert processor_counters(tmp_path) == []


def test_a_machine_without_counters_has_none(tmp_path: Path):
    assert processor_counters(tmp_path / "powercap") == []
    assert counters_of(torch.device("meta")) == []


def test_a_counter_that_fails_later_ends_the_measurement_with_a_warning(tmp_path: Path, caplog):
    file = domain(tmp_path, "0", "package-0", 0)
    meter = EnergyMeter(processor_counters(tmp_path))
    file.unlink()
    assert meter.watt_hours() is None
    assert meter.watt_hours() is None
    assert [record.getMessage()[:40] for record in caplog.records] == ["energy: a counter can no longer be read "]


def test_a_gpu_is_found_by_its_uuid(monkeypatch: pytest.MonkeyPatch):
    millijoules = {"GPU-u0": 0, "GPU-u1": 5_000}
    fake_nvml(monkeypatch, millijoules)
    meter = EnergyMeter(counters_of(torch.device("cuda", 1)))
    millijoules["GPU-u1"] += 3_600_000
    millijoules["GPU-u0"] += 9_000_000
    assert meter.watt_hours() == pytest.approx(1)


def test_a_gpu_that_does_not_count_and_a_missing_package_give_nothing(monkeypatch: pytest.MonkeyPatch):
    fake_nvml(monkeypatch, {})
    assert gpu_counters(torch.device("cuda", 0)) == []
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_counters(torch.device("cuda", 0)) == []


@pytest.mark.slow
def test_a_fit_logs_its_energy_where_the_machine_counts_it(stages: Stages, monkeypatch: pytest.MonkeyPatch):
    """A machine whose processors use one watt-hour between any two readings."""
    joules = iter(range(0, 10_000_000, 3600))
    monkeypatch.setattr(energy, "processor_counters", lambda: [Counter(lambda: float(next(joules)))])
    logged = ("--trainer.logger=true", "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1")
    assert stages.teacher(*logged).code == 0
    events = EventAccumulator("teacher/_logs")
    events.Reload()
    shown = [one.value for one in events.Scalars("throughput/energy_wh")]
    steps = len(events.Scalars("throughput/tokens_per_s"))
    assert shown == list(range(1, steps + 2))  # at each step, and after the last validation
    peaks = [one.value for one in events.Scalars("throughput/peak_memory_gb")]
    assert len(peaks) == steps + 1
    assert 0.1 < peaks[0] <= peaks[-1] < 100
    monkeypatch.setattr(energy, "processor_counters", list)
    assert stages.teacher(*logged, "--out=unknown").code == 0
    events = EventAccumulator("unknown/_logs")
    events.Reload()
    assert "throughput/energy_wh" not in events.Tags()["scalars"]
