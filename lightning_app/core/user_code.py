"""A user's own code: imported by its file, and what goes wrong in it, with its file and line."""

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from .errors import InputError, shorten
from .fingerprint import of_files

_PROJECT = Path(__file__).resolve().parents[2]
_ROOMS = ("lightning_app", "datamodules", "modules", "callbacks", "labelbridge", "main.py")


@contextmanager
def user_code(what: str, expected: str = "") -> Iterator[None]:
    """Turn whatever a user's code does, an exit among it, into one line.

    Args:
        what: What an error calls the code, such as `strategy 'mine.shortest'`.
        expected: What the code has to be, for errors that come through no line of the user's.

    Raises:
        InputError: If anything is raised inside, with the place in the user's file; one of ours passes as it is. Or if
            the standard output is closed, which is the program's own.
    """
    try:
        yield
        if sys.stdout.closed:
            raise InputError(f"{what}: it closes the standard output; fix this code")
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - a user's code may fail in any way
        place = place_of(error)
        remedy = f"expected {expected}" if expected and place is None else "fix this code"
        raise InputError(f"{what}{f', {place}' if place else ''}: {_reason(error)}; {remedy}") from None


def mistake_in_user_code(error: BaseException) -> InputError | None:
    """An error that came through a user's own code (a callback, a module) as one line; None where it did not."""
    place = place_of(error)
    if place is None or (isinstance(error, SystemExit) and not _is_raised_by_the_user(error)):
        return None
    return InputError(f"{place}: {_reason(error)}; fix this code")


def _is_raised_by_the_user(error: BaseException) -> bool:
    """Whether a user's own line has raised an error; a signal may end the program while such a line runs."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and is_the_users(frames[-1].filename)


def _reason(error: BaseException) -> str:
    try:
        said = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the error's own code may fail, too
        said = ""
    name = type(error).__name__
    reason = f"it ends the program ({name})" if isinstance(error, SystemExit) else name
    return f"{reason}{f': {shorten(said, 160)[1:-1]}' if said else ''}"


def file_of(module: str) -> Path | None:
    """The file of a user's module, named with dots; None if there is none.

    It is looked for in the current folder, then in the folders of the module path that the user has put there
    (PYTHONPATH), never among installed packages and Python's own.
    """
    folders = [Path.cwd(), *(Path(entry) for entry in sys.path if entry)]
    files = (folder.joinpath(*module.split(".")).with_suffix(".py") for folder in folders if not _is_installed(folder))
    return next((file for file in files if file.is_file()), None) if all(module.split(".")) else None


def import_file(file: Path, what: str) -> ModuleType:
    """Run a file as a module of its own name, whatever else has that name.

    Args:
        file: The file.
        what: As for `user_code`.

    Raises:
        InputError: See `user_code`.
    """
    name = f"labelbridge_user_{file.stem}_{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification is not None, "it is a .py file"
    assert specification.loader is not None, "it is a .py file"
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        with user_code(what):
            specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def code_of_class(kind: type) -> str | None:
    """The fingerprint of the file that holds a class of a user's own: another version of it is another class."""
    try:
        file = inspect.getsourcefile(kind)
    except TypeError:  # typed into an interpreter
        return None
    return of_files([Path(file)]) if file is not None and is_the_users(file) else None


def place_of(error: BaseException) -> str | None:
    """The last line of the user's code that an error came through; None where it came through none."""
    if isinstance(error, SyntaxError) and error.filename and is_the_users(error.filename):
        return f"{error.filename} line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_the_users(frame.filename)]
    return f"{frames[-1].filename} line {frames[-1].lineno}" if frames else None


def is_the_users(filename: str) -> bool:
    """Whether a file with code is the user's own: no library's, and none of this project's."""
    path = Path(filename).resolve()
    is_ours = any(path.is_relative_to(_PROJECT / room) for room in _ROOMS)
    return path.is_file() and not is_ours and not _is_installed(path)  # compiled code names files that are not there


def _is_installed(path: Path) -> bool:
    return "site-packages" in path.parts or path.resolve().is_relative_to(Path(sys.base_prefix).resolve())
