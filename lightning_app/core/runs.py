"""One output folder, one run: its identity, its lock, and whether it is new, partial or whole."""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Self

import filelock

from . import artifacts
from .errors import InputError, shorten

IDENTITY = "identity.json"
LOCK = ".lock"
CHECKPOINTS = "checkpoints"
PARTS = ".parts"
# What runs write, beside their logs.
PRODUCTS = (artifacts.MANIFEST, PARTS, CHECKPOINTS, "model", ".model.previous", "dynamics", "dynamics-gold", "rejected")
# The words behind `main.py` as they were typed; `sys.argv` holds them with configs already looked up.
typed_words: list[str] = []


class State(Enum):
    """What a run finds in its output folder."""

    NEW = "new"
    PARTIAL = "partial"
    WHOLE = "whole"


class Run:
    """Claims an output folder for one process and one identity, until the `with` block ends.

    The identity is what determines the rows or the weights: inputs by fingerprint, model, method, seed; not devices,
    batch sizes or paths. It is written before the first row, so that a later command knows whether it may resume.

    Args:
        out: The output folder.
        stage: The stage's name, such as `pseudolabel`.
        identity: JSON values.
    """

    def __init__(self, out: Path, stage: str, identity: Mapping[str, Any]) -> None:
        self.out = out
        self.stage = stage
        self.identity: dict[str, Any] = json.loads(json.dumps({"stage": stage, **identity}))
        self._lock = filelock.FileLock(out / LOCK)
        self._state: State | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A run that a mistake ended before it had written anything has no claim to the folder.
        mistake = kind is not None and issubclass(kind, InputError)
        if mistake and self._state is State.NEW and not any((self.out / name).exists() for name in PRODUCTS):
            (self.out / IDENTITY).unlink(missing_ok=True)
        self._lock.release()

    def begin(self, overwrite: bool = False) -> State:
        """Lock the folder and compare identities.

        Args:
            overwrite: Clear what another run left here, and begin anew.

        Raises:
            InputError: If another process is at work here, or another identity has been.
        """
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out}: is a file, expected a folder for the outputs; choose another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise InputError(
                f"{self.out}: another process is writing here (it holds {LOCK}); wait for it, end it, or choose "
                "another --out (the lock ends with its process, a file left behind locks nothing)"
            ) from None
        previous = self._previous()
        if overwrite and previous is not None:
            self.clear()
            previous = None
        if previous is not None and previous != self.identity:
            raise InputError(
                f"{self.out}: holds another run ({_difference(previous, self.identity)}); "
                "choose another --out, or replace it with --overwrite true"
            )
        if artifacts.is_whole(self.out):
            self._state = State.WHOLE
            for folder in (PARTS, CHECKPOINTS):  # a kill right after the manifest leaves them
                shutil.rmtree(self.out / folder, ignore_errors=True)
        elif previous is None:
            # Rows and checkpoints without an identity may be any run's.
            shutil.rmtree(self.out / PARTS, ignore_errors=True)
            (self.out / CHECKPOINTS / "last.ckpt").unlink(missing_ok=True)
            artifacts.write_json(self.out / IDENTITY, self.identity)
            self._state = State.NEW
        else:
            self._state = State.PARTIAL
        return self._state

    def give_up(self) -> None:
        """Lay no claim to the folder: what was written shows why nothing came of the run, and is no start of one."""
        (self.out / IDENTITY).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what earlier runs wrote here.

        The manifest goes first, so that nothing looks whole meanwhile, and the identity last, so that what a kill
        leaves is still known for another run's.
        """
        (self.out / artifacts.MANIFEST).unlink(missing_ok=True)
        for shard in self.out.glob("part-*.parquet"):
            shard.unlink()
        for folder in ("logs", *PRODUCTS[1:]):
            shutil.rmtree(self.out / folder, ignore_errors=True)
        (self.out / IDENTITY).unlink(missing_ok=True)

    def _previous(self) -> dict[str, Any] | None:
        file = self.out / IDENTITY
        if not file.is_file():
            if artifacts.is_whole(self.out):
                return {"stage": artifacts.read_manifest(self.out).stage}
            return None
        try:
            previous: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            return {"stage": "unreadable"}
        return previous


def command_line() -> str:
    """The command as the user typed it, for manifests and for going on after a stop."""
    script = Path(sys.argv[0]).name or "main.py"
    program = {"labelbridge": ["labelbridge"], "__main__.py": ["python", "-m", "labelbridge"]}
    return shlex.join([*program.get(script, ["python", script]), *(typed_words or sys.argv[1:])])


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Name the keys in which two identities differ, the first few with their values."""
    flat_old, flat_new = _flat(old), _flat(new)
    keys = [key for key in sorted({*flat_old, *flat_new}) if flat_old.get(key) != flat_new.get(key)]
    shown = [f"{key}: {shorten(flat_old.get(key), 24)} -> {shorten(flat_new.get(key), 24)}" for key in keys[:3]]
    return ", ".join(shown) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, one in value.items():
        name = f"{prefix}{key}"
        flat.update(_flat(one, f"{name}.") if isinstance(one, Mapping) else {name: one})
    return flat
