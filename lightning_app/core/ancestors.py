"""What an artifact descends from, as far as it is still where it was read."""

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from . import artifacts
from .artifacts import Manifest
from .errors import InputError
from .paths import find

log = logging.getLogger(__name__)


def ancestors(folder: Path) -> Iterator[tuple[Path, Manifest]]:
    """A folder's artifact and all that it descends from, each once, the nearest first.

    Manifests alone are read, so that a run counts whose model has been removed since to save space. One that cannot be
    read is named in a warning, as what it descends from is not known.

    Args:
        folder: The artifact's folder; a run's `model` folder stands for the run.
    """
    waiting, seen = [_run_of(folder)], set[Path]()
    while waiting:
        place = waiting.pop(0)
        manifest = None if place in seen else _manifest_of(place)
        seen.add(place)
        if manifest is None:
            continue
        yield place, manifest
        for reference in manifest.inputs.values():
            waiting += filter(None, (find(_run_of(Path(path))) for path in reference["paths"]))


def _manifest_of(place: Path) -> Manifest | None:
    if not (place / artifacts.MANIFEST).is_file():
        return None
    try:
        return artifacts.manifest_at(place)
    except InputError as error:
        _warn_once(f"{place}: what it descends from is not known: {error}")
        return None


@cache
def _warn_once(line: str) -> None:
    """A command looks at the same ancestors for several reasons."""
    log.warning("%s", line)


def _run_of(path: Path) -> Path:
    return path.parent if path.name == "model" else path
