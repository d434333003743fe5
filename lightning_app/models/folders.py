"""Export folders: written beside their place, then put there; only what an export wrote is ever replaced."""

import filecmp
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import InputError, system_errors
from ..core.replacing import check_outside
from .locate import CARD_FACTS, read_facts

_NOT_EMPTY = "{}: not empty; choose another --out, or replace it with --overwrite true"
# What exports write beside the files that they copy.
_WRITTEN = (
    "README.md", CARD_FACTS, "*.safetensors", "*.safetensors.index.json", "onnx/*.onnx", "onnx/*.onnx.data",
    "data/*.parquet",
)  # fmt: skip


def write_folder(
    out: Path,
    write: Callable[[Path], None],
    copied: Collection[Path],
    overwrite: bool,
    is_of_kind: Callable[[Mapping[str, Any]], bool],
) -> None:
    """Have a folder written beside its place, then put it there.

    Args:
        out: The place.
        write: Writes the files into a new folder.
        copied: Files, by their paths inside the folder, that are copied from elsewhere.
        overwrite: Replace an earlier export, whatever it holds.
        is_of_kind: Says by its facts whether what is there is an export of the same kind; it may stay if it has the
            same files.

    Raises:
        InputError: If something else is in the place.
    """
    check_outside(out)
    _recover(out)
    is_there = check_replaceable(out, copied)
    if is_there and not overwrite and not is_of_kind(read_facts(out)):
        raise InputError(_NOT_EMPTY.format(out))
    temporary = out.absolute().with_name(f".{out.absolute().name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with system_errors(out):
            write(temporary)
        if is_there and not overwrite and not _are_same(temporary, out):
            raise InputError(_NOT_EMPTY.format(out))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _exchange(temporary, out)


def check_apart(out: Path, source: Path, what: str) -> None:
    """Refuse an export into the folder that is exported, one inside it, or one around it.

    Args:
        out: The place.
        source: What is exported.
        what: What an error calls it.

    Raises:
        InputError: Says which of the two is inside the other.
    """
    target, exported = out.resolve(), source.resolve()
    if exported.is_relative_to(target) or target.is_relative_to(exported):
        how = "holds" if exported.is_relative_to(target) else "is inside"
        raise InputError(f"{out}: {how} the {what} that is to be exported; choose another --out")


def check_replaceable(target: Path, copied: Collection[Path]) -> bool:
    """Whether an earlier export is there; only what one wrote is ever removed.

    Raises:
        InputError: If anything else is there.
    """
    if target.is_symlink() and not target.exists():
        raise InputError(f"{target}: is a link to nothing; remove it, or choose another --out")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: is a file, expected a folder for the export; choose another --out")
    if not target.exists() or not any(target.iterdir()):
        return False
    if not (target / CARD_FACTS).is_file():
        raise InputError(f"{target}: not empty, and not an export that could be replaced; choose another --out")
    for file in files_in(target):
        inside = file.relative_to(target)
        if inside not in copied and not any(inside.match(pattern) for pattern in _WRITTEN):
            raise InputError(f"{file}: no export wrote it; move it, or choose another --out")
    return True


def files_in(folder: Path) -> list[Path]:
    """All files of a folder."""
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _exchange(new: Path, out: Path) -> None:
    """Put a finished export in its place; the one that it replaces is removed last."""
    previous = _previous(out)
    if out.exists():
        out.rename(previous)
    new.rename(out)
    shutil.rmtree(previous, ignore_errors=True)


def _recover(out: Path) -> None:
    """Finish an exchange that a kill has interrupted."""
    previous = _previous(out)
    if previous.is_dir() and not out.exists():
        previous.rename(out)
    shutil.rmtree(previous, ignore_errors=True)


def _previous(out: Path) -> Path:
    return out.absolute().with_name(f".{out.absolute().name}.previous")


def _are_same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    names, others = ({file.relative_to(folder) for file in files_in(folder)} for folder in (one, other))
    return names == others and all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)
