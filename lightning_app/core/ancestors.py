"""What an artifact descends from, as far as it is still where it was read."""

from collections.abc import Iterator
from pathlib import Path

from . import artifacts
from .artifacts import Manifest
from .paths import find


def ancestors(folder: Path) -> Iterator[tuple[Path, Manifest]]:
    """A folder's artifact and all that it descends from, each once, the nearest first.

    Manifests alone are read, so that a run counts whose model has been removed since to save space.

    Args:
        folder: The artifact's folder; a run's `model` folder stands for the run.
    """
    waiting, seen = [_run_of(folder)], set[Path]()
    while waiting:
        place = waiting.pop(0)
        manifest = None if place in seen else artifacts.manifest_of(place)
        seen.add(place)
        if manifest is None:
            continue
        yield place, manifest
        for reference in manifest.inputs.values():
            waiting += filter(None, (find(_run_of(Path(path))) for path in reference["paths"]))


def _run_of(path: Path) -> Path:
    return path.parent if path.name == "model" else path
