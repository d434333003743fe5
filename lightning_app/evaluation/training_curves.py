"""How the runs behind a report went: dev scores, time, rows, tokens, memory, energy; from their TensorBoard logs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core import artifacts
from ..core.ancestors import ancestors
from ..core.artifacts import Manifest
from ..core.paths import find
from ..core.runs import LOGS
from .predictions import Tested

CURVE = "dev/accuracy"
_TOKENS = "throughput/tokens_per_s"
_ENERGY = "throughput/energy_wh"
_MEMORY = "throughput/peak_memory_gb"


@dataclass(frozen=True)
class Training:
    """The training run of one tested model.

    Args:
        method: The method.
        seed: The seed.
        setting: The setting.
        task: The task.
        path: The run's folder.
        gold: Gold rows that it was trained on, if recorded.
        synthetic: Selected rows that it was trained on, if recorded.
        step: The optimizer step whose weights were exported, if recorded.
        seconds: From the first logged value to the last, over all starts of the run; None without logs.
        tokens: Tokens that went through the model, by the logged rate; None without logs.
        energy_wh: Watt-hours that the device used, over all starts of the run; None unless each of them logged it.
        peak_gb: The most memory that one of its processes held (on a GPU: that torch allocated there), in units of 2^30
            bytes; None where it was not logged.
        curve: Optimizer step -> accuracy on the source dev set.
    """

    method: str
    seed: str
    setting: str
    task: str
    path: str
    gold: int | None
    synthetic: int | None
    step: int | None
    seconds: float | None
    tokens: float | None
    energy_wh: float | None = None
    peak_gb: float | None = None
    curve: dict[int, float] = field(default_factory=dict)


def trainings(tested: Sequence[Tested]) -> list[Training]:
    """The training runs of the tested models, as far as their folders are still there."""
    found = []
    for run in tested:
        for folder, manifest in ancestors(Path(run.path)):
            if manifest.stage in ("teacher", "student"):
                logged = _logged(folder)
                found.append(
                    Training(
                        run.method, run.seed, run.setting, run.task.name, str(folder),
                        None if run.gold_counts is None else sum(run.gold_counts),
                        _selected(run, manifest),
                        manifest.facts.get("step"), *logged,
                    )
                )  # fmt: skip
                break  # the nearest is the model's own; a student's teacher comes after it
    return found


def _selected(run: Tested, manifest: Manifest) -> int | None:
    """The rows that were selected for a run, by its own record or by the selection's; 0 for a teacher."""
    if run.synthetic_counts is not None:
        return sum(run.synthetic_counts)
    reference = manifest.inputs.get("selection")
    if reference is None:
        return 0
    found = find(reference["paths"][0])
    selection = artifacts.manifest_of(found) if found is not None else None
    return None if selection is None else selection.rows


def _logged(folder: Path) -> tuple[float | None, float | None, float | None, float | None, dict[int, float]]:
    """Seconds, tokens, watt-hours, peak memory, and the dev curve of a run."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    seconds, rates, peaks, energies, curve = 0.0, [], [], [], {}
    for file in sorted(folder.glob(f"{LOGS}/**/events.out.tfevents.*")):  # each start of the run wrote one
        times: list[float] = []
        numbers: dict[str, list[float]] = {CURVE: [], _TOKENS: [], _ENERGY: [], _MEMORY: []}
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                times.append(event.wall_time)
                if value.tag not in numbers:  # images, texts, hyperparameters
                    continue
                number = float(make_ndarray(value.tensor)) if value.HasField("tensor") else value.simple_value
                numbers[value.tag].append(number)
                if value.tag == CURVE:
                    curve[event.step] = number
        seconds += max(times) - min(times) if times else 0
        rates += numbers[_TOKENS]
        peaks += numbers[_MEMORY]
        if numbers[_ENERGY] or numbers[_TOKENS]:
            # It grows from 0, and is logged with every rate unless it cannot be read.
            complete = len(numbers[_ENERGY]) >= len(numbers[_TOKENS])
            energies.append(max(numbers[_ENERGY]) if complete else None)
    known = [one for one in energies if one is not None]
    energy = sum(known) if known and len(known) == len(energies) else None
    peak = max(peaks, default=None)
    if not seconds:
        return None, None, energy, peak, curve
    return seconds, seconds * sum(rates) / len(rates) if rates else None, energy, peak, curve
