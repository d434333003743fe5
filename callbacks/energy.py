"""The energy that the device of a run uses, where the machine counts it: NVIDIA's GPUs, and processors under Linux."""

import importlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)

POWERCAP = Path("/sys/class/powercap")
# Domains that do not contain each other: a package contains its cores, and `psys` everything.
_DOMAINS = ("package", "dram")


@dataclass(frozen=True)
class Counter:
    """A counter of energy.

    Args:
        read: Its value in joules. Raises OSError if it cannot be read.
        limit: Where it starts from 0 again, in joules.
    """

    read: Callable[[], float]
    limit: float = math.inf


class EnergyMeter:
    """Adds up what counters have counted since it was made.

    Args:
        counters: The counters.
    """

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = counters
        self._last = [counter.read() for counter in counters]
        self._joules = 0.0
        self._read_at = time.monotonic()

    def keep_up(self) -> None:
        """Read the counters once a minute: a processor's starts over after some 20 minutes at 200 W."""
        if time.monotonic() - self._read_at >= 60:
            self.watt_hours()

    def watt_hours(self) -> float | None:
        """The energy so far; None if nothing counts it."""
        try:
            values = [counter.read() for counter in self._counters]
        except OSError as error:
            log.warning("energy: a counter can no longer be read (%s); this run has no energy from here on", error)
            self._counters = []
        if not self._counters:
            return None
        for counter, before, value in zip(self._counters, self._last, values, strict=True):
            self._joules += value - before + (counter.limit if value < before else 0)
        self._last, self._read_at = values, time.monotonic()
        return self._joules / 3600


def counters_of(device: torch.device) -> list[Counter]:
    """The counters of a device; none where the machine has none or may not read them."""
    if device.type == "cuda":
        return gpu_counters(device)
    return processor_counters() if device.type == "cpu" else []


def processor_counters(folder: Path | None = None) -> list[Counter]:
    """The counters of all processors of this machine and of their memory: RAPL, through Linux's powercap.

    See https://docs.kernel.org/power/powercap/powercap.html; most systems let only root read them.

    Args:
        folder: In the place of `/sys/class/powercap`.
    """
    try:
        counters = [
            _file_counter(domain)
            for domain in sorted((folder or POWERCAP).glob("intel-rapl:*"))
            if (domain / "name").read_text().startswith(_DOMAINS)
        ]
        for counter in counters:
            counter.read()
    except OSError:
        return []  # one that is missing would make the sum too small
    return counters


def _file_counter(domain: Path) -> Counter:
    def read() -> float:
        return int((domain / "energy_uj").read_text()) / 1e6

    return Counter(read, int((domain / "max_energy_range_uj").read_text()) / 1e6)


def gpu_counters(device: torch.device) -> list[Counter]:
    """The counter of an NVIDIA GPU, of Volta or later, by NVML if the package `nvidia-ml-py` is installed."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ModuleNotFoundError:
        return []

    def read() -> float:
        try:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except nvml.NVMLError as error:
            raise OSError(str(error)) from error

    try:
        nvml.nvmlInit()
        # By its UUID: CUDA numbers the GPUs that it may see, NVML all of them.
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        read()
    except (nvml.NVMLError, OSError):
        return []
    return [Counter(read)]
