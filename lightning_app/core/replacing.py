"""`--overwrite`: what an earlier run left is set aside, and removed only when the run that replaces it is complete.

Everything moves by renaming inside the output folder, one entry after the other, in an order that shows the next
command what a kill has interrupted. Only what runs write is ever moved or removed.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import artifacts
from .ancestors import ancestors
from .artifacts import IDENTITY, MANIFEST
from .errors import InputError, shorten
from .paths import find

log = logging.getLogger(__name__)

CONFIG = "_config.yaml"
LOGS = "_logs"
CHECKPOINTS = "checkpoints"
LAST_CHECKPOINT = f"{CHECKPOINTS}/last.ckpt"  # from which a fit resumes
PARTS = ".parts"
DYNAMICS = ("dynamics", "dynamics-gold")
MODEL = "model"
# What runs write in folders of their own.
FOLDERS = (PARTS, CHECKPOINTS, MODEL, ".model.previous", *DYNAMICS, artifacts.REJECTED)
_OTHERS = (MANIFEST, artifacts.HUGGING_FACE, artifacts.METRICS, CONFIG, LOGS, ".model.tmp", "cells", "report.json",
           "report.md")  # fmt: skip
_FIGURES = re.compile(r"data_map[\w.-]*\.(png|svg)")
# What an earlier run wrote, while another is at work in its place.
REPLACED = ".replaced"
# What a run has computed that was to replace another and broke off; the same command goes on from it.
UNFINISHED = ".unfinished"
# Files of a model, of an artifact inside an artifact, or left by a kill, that its manifest does not list.
_UNLISTED = (Path(LAST_CHECKPOINT).name, "README.md", "labelbridge.json", artifacts.HUGGING_FACE)


def products(folder: Path) -> Iterator[Path]:
    """What a run has written in its output folder, but for its identity; the manifest comes first."""
    yield from (folder / name for name in (*_OTHERS, *FOLDERS) if (folder / name).exists())
    if folder.is_dir():
        others = (path for path in sorted(folder.iterdir()) if artifacts.is_shard(path.name))
        yield from (*others, *(path for path in sorted(folder.iterdir()) if _FIGURES.fullmatch(path.name)))


def check_outside(out: Path) -> None:
    """Refuse to write into what another run has written in its own folder: its next start may remove that.

    Args:
        out: The output folder.

    Raises:
        InputError: Names the other run's folder.
    """
    place = Path(os.path.realpath(out))  # `resolve` stumbles over a link that leads back to itself
    for inside, run in zip((place, *place.parents), place.parents, strict=False):
        is_run = any((run / name).is_file() for name in (IDENTITY, MANIFEST))
        if is_run and inside.name in (*FOLDERS, *_OTHERS, REPLACED, UNFINISHED):
            raise InputError(
                f"{out}: inside {inside.name} of the run in {run}, which may replace it; choose another --out"
            )


def check_own(out: Path, has_run: bool, writes: Sequence[str] = ()) -> None:
    """Refuse to write where a user's own files would be lost.

    Args:
        out: The output folder.
        has_run: Whether a run has written there before.
        writes: Names of further files and folders that the run will write there.

    Raises:
        InputError: Names a file that no run wrote.
    """
    strange: Path | None = None
    if not has_run:
        names = (PARTS, CHECKPOINTS, MODEL, *DYNAMICS, artifacts.METRICS, artifacts.HUGGING_FACE, *writes)
        places = [out / name for name in names if (out / name).exists()]
        shards = [path for path in out.iterdir() if artifacts.is_shard(path.name) or _FIGURES.fullmatch(path.name)]
        strange = next((file for place in [*shards, *places] for file in _files(place)), None)
    elif (listed := _listed(out)) is not None:
        shards = [path for path in out.iterdir() if artifacts.is_shard(path.name)]
        places = [*shards, *(out / name for name in (MODEL, *DYNAMICS, artifacts.REJECTED, CHECKPOINTS))]
        files = (file for place in places for file in _files(place) if file.name not in _UNLISTED)
        strange = next((file for file in files if file.relative_to(out).as_posix() not in listed), None)
    if strange is not None:
        raise InputError(f"{strange}: in the place of an output, but no run wrote it; move it, or choose another --out")


def check_not_read(out: Path, reads: Sequence[str]) -> None:
    """Refuse to replace what the same command reads, or what that descends from: neither could be made again.

    Args:
        out: The output folder.
        reads: Paths of what the command reads, and names of models.

    Raises:
        InputError: Names the path.
    """
    written = [path.resolve() for path in products(out)]
    for name in reads:
        found = find(name) if name else None
        place = found.resolve() if found is not None else None
        if place is not None and (place == out.resolve() or any(place.is_relative_to(path) for path in written)):
            raise InputError(
                f"{out}: holds {shorten(name, 200)[1:-1]}, which this command reads, and would be replaced; choose "
                "another --out"
            )
        if found is not None and any(ancestor.resolve() == out.resolve() for ancestor, _ in ancestors(found)):
            raise InputError(
                f"{out}: {shorten(name, 200)[1:-1]}, which this command reads, was made from it, and it would be "
                "replaced; choose another --out"
            )


def recover(out: Path) -> None:
    """Finish what a kill has interrupted."""
    aside = out / REPLACED
    if not aside.is_dir():
        return
    if not ((aside / IDENTITY).is_file() and (out / IDENTITY).is_file()):
        _move_back(aside, out)
    elif artifacts.is_whole(out):
        discard(out)


def set_aside(out: Path) -> None:
    """Make room for another run; what a run wrote that was itself to replace one, and broke off, is removed."""
    aside = out / REPLACED
    if aside.is_dir():
        remove(out)
        return
    aside.mkdir()
    for path in products(out):
        path.rename(aside / path.name)
    # The identity is last: until it is there, the next command puts all back.
    if (out / IDENTITY).is_file():
        (out / IDENTITY).rename(aside / IDENTITY)
    else:
        artifacts.write_json(aside / IDENTITY, {"stage": "unknown"})


def take_up(out: Path) -> None:
    """Put what an interrupted run had computed into the output folder; its predecessor has been set aside."""
    _move_back(out / UNFINISHED, out)


def put_back(out: Path) -> None:
    """Restore what was set aside; what the run that failed has computed is kept beside it."""
    unfinished = out / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    if any((out / name).exists() for name in FOLDERS):
        unfinished.mkdir()
        for path in [*products(out), out / IDENTITY]:
            if path.exists():
                path.rename(unfinished / path.name)
    remove(out)
    _move_back(out / REPLACED, out)


def discard(out: Path) -> None:
    """Remove what was set aside, now that its successor is complete."""
    shutil.rmtree(out / REPLACED, ignore_errors=True)
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)


def remove(out: Path) -> None:
    """Remove what a run wrote, its identity last, so that what a kill leaves is still known for that run's."""
    for path in [*products(out), out / IDENTITY]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _move_back(source: Path, out: Path) -> None:
    """Move everything out of a folder beside the products; the manifest is last, so that nothing looks complete."""
    last = (IDENTITY, MANIFEST)
    entries = sorted(source.iterdir(), key=lambda path: last.index(path.name) if path.name in last else -1)
    for path in entries:
        path.rename(out / path.name)
    source.rmdir()


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())


def _listed(out: Path) -> set[str] | None:
    """The files that an artifact's manifest names; None if it has none, or none that can be read."""
    try:
        return {str(file.relative_to(out).as_posix()) for file in artifacts.files_of(out)}
    except InputError:
        return None
