"""One output folder, one run: its identity, its lock, and whether it is new, partial or complete."""

import json
import logging
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any, Self

import filelock

from . import artifacts, replacing
from .artifacts import IDENTITY
from .documents import read_json
from .errors import InputError, refusal_in, shorten, system_error
from .program import program
from .replacing import CHECKPOINTS, CONFIG, DYNAMICS, FOLDERS, LAST_CHECKPOINT, LOGS, PARTS, REPLACED, UNFINISHED
from .run_parts import WHOLE, Shard
from .secrets import mask_text

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "DYNAMICS",
    "LAST_CHECKPOINT",
    "LOGS",
    "PARTS",
    "Run",
    "State",
    "check_written_out",
    "command_line",
    "output_folder",
    "typed_words",
]

LOCK = ".lock"
_PATIENCE = 60.0  # seconds in which another shard has begun
UNREADABLE: dict[str, Any] = {"stage": "unreadable"}
log = logging.getLogger(__name__)
_HOME = re.compile(r"~[^/\s]*(/|$)")

# The words behind `main.py` as they were typed; `sys.argv` holds them with configs already looked up.
typed_words: list[str] = []


class State(Enum):
    """What a run finds in its output folder."""

    NEW = "new"
    PARTIAL = "partial"
    COMPLETE = "complete"


class Run:
    """Claims an output folder for one process and one identity, until the `with` block ends.

    The identity is what determines the rows or the weights: inputs by fingerprint, model, method, seed; not devices,
    batch sizes or paths. It is written before the first row, so that a later command knows whether it may resume. A
    run that has written nothing else has no claim to the folder.

    Args:
        out: The output folder.
        stage: The stage's name, such as `pseudolabel`.
        identity: JSON values.
        shard: If given, the part of the run that this process computes; others may be at work beside it.
    """

    def __init__(self, out: Path, stage: str, identity: Mapping[str, Any], shard: Shard = WHOLE) -> None:
        self.out = out
        self.stage = stage
        self.identity: dict[str, Any] = json.loads(json.dumps({"stage": stage, **identity}))
        self.shard = shard
        self._lock = filelock.FileLock(out / LOCK)
        self._shard_lock = filelock.FileLock(out / f"{LOCK}.{shard.number}-of-{shard.of}")
        self._state: State | None = None
        self._writes: Sequence[str] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        # What a shard has begun is that of all of them: it stays for the run that puts them together.
        if self.shard == WHOLE and self._state in (State.NEW, State.PARTIAL):
            is_stopped = kind is not None and issubclass(kind, SystemExit | KeyboardInterrupt)
            if kind is not None and not is_stopped and self.is_replacing:
                replacing.put_back(self.out)
            elif kind is not None and self._state is State.NEW and not self._has_products():
                (self.out / IDENTITY).unlink(missing_ok=True)
            elif self.is_replacing and artifacts.is_whole(self.out):
                replacing.discard(self.out)
        self._lock.release()
        self._shard_lock.release()
        if isinstance(error, Exception) and (refusal := refusal_in(error)) is not None:
            raise system_error(refusal, self.out) from error

    def begin(self, overwrite: bool = False, reads: Sequence[str] = (), writes: Sequence[str] = ()) -> State:
        """Lock the folder and compare identities.

        Args:
            overwrite: Set aside what another run left here, and begin anew; it is removed when this run is complete,
                and put back if this run fails. What a run of the same identity has computed is kept, and resumed from.
            reads: Paths of what the run reads, which it must not replace.
            writes: Names of the files and folders that this stage alone writes into its folder.

        Raises:
            InputError: If another process is at work here, or another identity has been, or files that no run wrote
                are in the place of the outputs.
        """
        self._writes = writes
        replacing.check_outside(self.out)
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out}: is a file, expected a folder for the outputs; choose another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        try:
            if self.shard == WHOLE:
                self._lock.acquire(timeout=0)
                self._check_no_shards()
                return self._begin(overwrite, reads)
            self._shard_lock.acquire(timeout=0)
            with self._lock.acquire(timeout=_PATIENCE):
                return self._begin(overwrite, reads)
        except filelock.Timeout as timeout:
            raise InputError(
                f"{self.out}: another process is writing here (it holds {Path(timeout.lock_file).name}); wait for it, "
                "end it, or choose another --out (the lock ends with its process, a file left behind locks nothing)"
            ) from None

    def _check_no_shards(self) -> None:
        """Have no shard at work in the folder but this process's own.

        Raises:
            filelock.Timeout: If there is one.
        """
        for file in self.out.glob(f"{LOCK}.*"):
            if file != Path(self._shard_lock.lock_file):
                with filelock.FileLock(file, timeout=0):
                    pass

    def _begin(self, overwrite: bool, reads: Sequence[str]) -> State:
        previous = self._settled(overwrite, reads)
        if previous is not None and previous != self.identity:
            raise InputError(
                f"{self.out}: holds another run ({_difference(previous, self.identity)}); "
                "choose another --out, or replace it with --overwrite true"
            )
        if artifacts.is_whole(self.out):
            self._state = State.COMPLETE
            # A kill right after the manifest leaves these.
            shutil.rmtree(self.out / PARTS, ignore_errors=True)
            (self.out / LAST_CHECKPOINT).unlink(missing_ok=True)
            with suppress(OSError):  # others in it are the user's
                (self.out / CHECKPOINTS).rmdir()
        elif previous is None or not self._has_products():
            artifacts.write_json(self.out / IDENTITY, {**self.identity, "command": command_line()})
            self._state = State.NEW
        else:
            self._state = State.PARTIAL
        self._say(overwrite)
        if self._state is State.PARTIAL:  # files of the recorded sizes would look complete before they are
            (self.out / artifacts.MANIFEST).unlink(missing_ok=True)
        return self._state

    def _settled(self, overwrite: bool, reads: Sequence[str]) -> dict[str, Any] | None:
        """The identity of the run that is in the folder when all is done that `overwrite` asks for; None if it is free.

        Raises:
            InputError: If a user's own files, or what this run reads, are in the place of the outputs.
        """
        replacing.recover(self.out)
        previous = self._previous()
        if previous is not None and previous != self.identity:
            self._check_no_shards()
        if previous is None:
            replacing.check_own(self.out, has_run=False, writes=self._writes)
        elif previous == UNREADABLE and not overwrite:
            raise InputError(
                f"{self.out / IDENTITY}: not the identity of a run; choose another --out, or replace what is there "
                "with --overwrite true"
            )
        elif previous != self.identity and not self._has_products() and not self.is_replacing:
            (self.out / IDENTITY).unlink(missing_ok=True)
            previous = None
        elif previous != self.identity and (overwrite or self._is_in(UNFINISHED)):
            previous = self._replace(reads)
        return previous

    @property
    def is_replacing(self) -> bool:
        """Whether an earlier run's outputs are set aside."""
        return (self.out / REPLACED).is_dir()

    def give_up(self) -> Path:
        """Lay no claim to the folder: what was written shows why nothing came of the run, and is no start of one.

        Returns:
            The folder in which it can be looked at when the run has failed.
        """
        shutil.rmtree(self.out / PARTS, ignore_errors=True)  # which nobody could resume from without the identity
        (self.out / IDENTITY).unlink(missing_ok=True)
        return self.out / UNFINISHED if self.is_replacing else self.out

    def _replace(self, reads: Sequence[str]) -> dict[str, Any] | None:
        """Make room for this run; the identity that is then in the folder: this run's where it had begun, or none."""
        replacing.check_not_read(self.out, reads)
        replacing.check_own(self.out, has_run=True)
        has_begun = self._is_in(UNFINISHED)
        replacing.set_aside(self.out)
        if self._is_in(REPLACED):  # back to what was there before the run that broke off
            replacing.recover(self.out)
        elif has_begun:
            replacing.take_up(self.out)
        return self._previous()

    def _is_in(self, folder: str) -> bool:
        """Whether a run of this identity lies in one of the folders that `replacing` makes."""
        return self._identity_in(self.out / folder) == self.identity

    def _say(self, overwrite: bool) -> None:
        if self._state is State.COMPLETE:
            remedy = " (--overwrite replaces other runs alone; to compute this one again, remove the folder)"
            log.info("%s: already complete, nothing to do%s", self.out, remedy if overwrite else "")
        elif self._state is State.PARTIAL and (self.out / artifacts.MANIFEST).is_file():
            log.warning("%s: incomplete, %s; computing it again", self.out, artifacts.why_incomplete(self.out))
        elif self._state is State.PARTIAL:
            log.info("%s: incomplete, resuming", self.out)

    def is_complete(self) -> bool:
        """Whether a run of this identity is complete here; for ranks that leave `begin` to rank 0."""
        return self._previous() == self.identity and artifacts.is_whole(self.out)

    def replaces(self, stage: str) -> bool:
        """Whether the folder holds a run of this stage."""
        return (self._previous() or {}).get("stage") == stage

    def _has_products(self) -> bool:
        """Whether a run has written anything here that would be lost."""
        names = (artifacts.MANIFEST, artifacts.METRICS, artifacts.HUGGING_FACE, *FOLDERS, *self._writes)
        is_there = any((self.out / name).exists() for name in names)
        return is_there or any(artifacts.is_shard(path.name) for path in self.out.iterdir())

    def _previous(self) -> dict[str, Any] | None:
        return self._identity_in(self.out)

    @staticmethod
    def _identity_in(folder: Path) -> dict[str, Any] | None:
        file = folder / IDENTITY
        if not file.is_file():
            file = folder / artifacts.MANIFEST
            if not file.is_file():
                return None
        try:
            previous = read_json(file)
        except InputError:
            previous = None
        if not isinstance(previous, dict):
            return UNREADABLE
        if file.name == artifacts.MANIFEST:
            return {"stage": previous.get("stage")}
        return {key: value for key, value in previous.items() if key != "command"}


def output_folder(out: str) -> Path:
    """The folder that `out` names.

    Raises:
        InputError: If it names none (an empty path would be the current folder), or begins with `~`.
    """
    if out.strip() in ("", "null"):  # the latter is how a command line writes that there is none
        raise InputError(f"out is {out!r}, expected the name of a folder")
    check_written_out(out, "out")
    return Path(out)


def check_written_out(value: Any, place: str) -> None:
    """Refuse paths that begin with `~`, which shells expand at the start of a word alone, and some libraries anywhere.

    Args:
        value: A setting, as it is in a configuration or on the command line; maps and lists are searched.
        place: What an error calls it.

    Raises:
        InputError: If a text in it begins with the name of a home folder.
    """
    if isinstance(value, dict):
        for name, one in value.items():
            check_written_out(one, f"{place}.{name}")
    elif isinstance(value, list):
        for one in value:
            check_written_out(one, place)
    elif isinstance(value, str) and _HOME.match(value):
        raise InputError(f"{place} is {shorten(value)}, expected a path without ~; write the home folder out")


def command_line() -> str:
    """The command as the user typed it, but for `--overwrite`: for manifests, and to resume after a stop.

    With the same identity a run resumes with or without `--overwrite`; without it, no later run is replaced by mistake.
    Of a script that calls us, the script's own; empty where there is none, as in a notebook.
    """
    if typed_words:
        return f"{program()} {shlex.join(map(mask_text, _without_overwrite(typed_words)))}"
    script = Path(sys.argv[0]) if sys.argv else Path()
    is_script = script.suffix == ".py" and "site-packages" not in script.parts
    return shlex.join(["python", *map(mask_text, sys.argv)]) if is_script else ""


def _without_overwrite(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    follows = False  # whether the last word was `--overwrite`, whose value comes next
    for word in words:
        is_value = follows and not word.startswith("-")
        follows = word == "--overwrite"
        if not (is_value or follows or word.startswith("--overwrite=")):
            kept.append(word)
    return kept


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
