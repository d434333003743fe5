"""Running a command: configs are found, mistakes become one line and exit status 2."""

import difflib
import importlib
import inspect
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from ..core import runs
from ..core.errors import InputError, is_unicode, printable, refusal_in, shorten, system_error
from ..core.paths import PROJECT, find
from ..core.program import as_called, program
from ..core.user_code import mistake_in_user_code
from ..core.yaml_files import YamlError, load_mapping, load_yaml
from ..stages import COMMANDS, FUNCTIONS
from .early import check_early
from .help_pages import asks_for_page, page, without_all
from .interrupts import INTERRUPTED
from .named_tasks import replace_named_tasks
from .next_steps import Finished, next_line
from .parsers import Parser, meant, unknown_key
from .plain_sources import spell_out

log = logging.getLogger(__name__)

MISTAKE = 2
LONGEST_LINE = 4000  # commands that rebuild what is out of date must stay whole, to be copied
LONGEST_WORD = 400  # a value that is longer is no path that anyone has; its ends say which one it is


def run_function(words: Sequence[str]) -> int:
    """Run a command that is a plain function with a config.

    Args:
        words: The command line behind `main.py`: the command's name, then its options.

    Returns:
        The exit status.
    """
    name, options = words[0], list(words[1:])
    runs.typed_words[:] = words
    if name not in FUNCTIONS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        return _tell(f"'{name}' is not a command{meant(close)}; see python main.py --help")
    return _guarded(words, lambda: _call(name, options))


def run_trainer(
    words: Sequence[str], callbacks: Mapping[str, str], import_callbacks: Callable[[], tuple[dict[str, type], type]]
) -> int:
    """Run `fit`, `validate`, `test` or `predict`.

    Args:
        words: The command line behind `main.py`.
        callbacks: The class names of the callbacks that every run has, by the name of their settings.
        import_callbacks: Imports and returns the classes themselves, and that of the progress bar.

    Returns:
        The exit status.
    """

    def go() -> None:
        runs.typed_words[:] = words
        found = [words[0], *find_configs(list(words[1:]))]
        if asks_for_page(found):
            print(page(found), end="")
            return
        found = without_all(found)
        check_early(found, callbacks, unknown_key)
        # LightningCLI warns when it is given arguments while sys.argv holds others; DDP starts ranks from sys.argv.
        sys.argv = [sys.argv[0], *found]
        _set_up_logging()
        from .lightning_cli import Cli

        for own_handler in ("lightning", "lightning.pytorch", "lightning.fabric"):
            logging.getLogger(own_handler).handlers.clear()  # the root logger prints their lines already
        Cli(words[0], *import_callbacks())

    return _guarded(words, go)


def find_configs(options: list[str]) -> list[str]:
    """Replace each `--config FILE` by the file found here or in `configs/`, and each `--task NAME` by the task's file.

    Sources of rows are spelled out; see `plain_sources`.

    Raises:
        InputError: If there is no such file; names the closest one. Or if a path begins with `~`.
    """
    for word in options:
        _check_written_out(word)
    found = replace_named_tasks(options)
    for number, word in enumerate(list(found)):
        if word in ("--config", "-c") and number + 1 < len(found):
            found[number + 1] = _find_config(found[number + 1])
        elif word.startswith("--config="):
            found[number] = f"--config={_find_config(word.removeprefix('--config='))}"
    return spell_out(found)


def _check_written_out(word: str) -> None:
    """Refuse a word of the command line in which a path begins with `~`."""
    if "~" not in word:
        return
    key, is_option, value = word.partition("=") if word.startswith("--") else ("", "", word)
    value = value if is_option or not key else key
    try:
        parsed = load_yaml(value)
    except YamlError:
        parsed = value
    for one in (value, parsed):  # YAML takes ~ itself for null
        runs.check_written_out(one, f"command line: {key.lstrip('-') or 'a path'}")


def _call(name: str, options: list[str]) -> None:
    _set_up_logging()
    module, _, attribute = FUNCTIONS[name].rpartition(".")
    function = getattr(importlib.import_module(module), attribute)
    if asks_for_page([name, *options]):
        print(as_called(page([name, *find_configs(options)], function)), end="")
        return
    options = without_all(options)
    parser = Parser(prog=f"{program()} {name}", description=_description(function))
    parser.add_argument("-c", "--config", action="config", help="A configuration file; may be given several times.")
    parser.add_function_arguments(function, as_group=False, as_positional=name == "peek")
    settings = parser.instantiate(parser.parse_args(find_configs(options)))
    arguments = {key: value for key, value in settings.as_dict().items() if key != "config"}
    function(**arguments)
    writes = arguments.get("out") is not None and arguments.get("shard") is None  # a shard is no artifact yet
    if name != "peek" and writes and (line := next_line(_finished(name, arguments))) is not None:
        log.info("%s", line)


def _description(function: Callable[..., Any]) -> str:
    """What a docstring says before its list of arguments, which the parser shows by itself."""
    return re.split(r"\n+Args:\n", inspect.getdoc(function) or "")[0]


def _finished(name: str, arguments: dict[str, Any]) -> Finished:
    """What the command has written, for the line that says what comes next."""
    task, variant = arguments.get("task"), None
    if name == "clean":
        of_first_text = arguments["text_column"] not in (None, task.columns[-1])  # type: ignore[union-attr]
        has_teacher = find("runs/teacher/model") is not None
        variant = "first text" if of_first_text else "teacher is trained" if has_teacher else None
    return Finished(name, arguments["out"], task, arguments.get("pool"), variant=variant)


def _guarded(words: Sequence[str], go: Callable[[], None]) -> int:
    for stream in (sys.stdout, sys.stderr):  # an ASCII terminal shows other letters by their numbers
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_current_folder()
        _check_words(words)
        go()
        if not sys.stdout.closed:  # by a user's code
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except KeyboardInterrupt:  # raised by a user's code, or in a process whose signals are not ours
        with suppress(OSError, ValueError):
            print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as stop:
        if (mistake := mistake_in_user_code(stop)) is not None:
            return _tell(str(mistake))
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        mistake = _mistake_behind(error)
        if mistake is None:
            raise
        return _tell(str(mistake))
    return 0


def _check_current_folder() -> None:
    """Refuse to run in a folder that is gone, where no path means anything.

    Raises:
        InputError: If there is no current folder.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise InputError("the current folder is gone; change to another folder") from None


def _check_words(words: Sequence[str]) -> None:
    """Refuse words that no file can be called by, and no manifest could hold.

    Raises:
        InputError: Names the word.
    """
    for word in words:
        if not is_unicode(word) or "\0" in word:
            raise InputError(f"command line: {shorten(word)} holds NUL, or a sign that is not UTF-8; write it without")


def _discard_output() -> None:
    """Whoever read the output has gone: the rest of it goes nowhere, and no error follows at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _mistake_behind(error: BaseException | None) -> InputError | None:
    """The mistake in a chain of exceptions: jsonargparse wraps what a class raises while it is made.

    What the operating system refuses, a Trainer whose settings do not go together, and whatever comes through a user's
    own code, are mistakes too.
    """
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    for link in chain:
        if isinstance(link, InputError):
            return link
    for link in chain:
        if type(link).__name__ == "MisconfigurationException" or _is_lightnings(link):
            return InputError(f"trainer: {' '.join(str(link).split())}; change its settings")
    for link in chain:
        if (mistake := mistake_in_user_code(link)) is not None:
            return mistake
    if chain and (refusal := refusal_in(chain[0])) is not None:
        _discard_output()  # what it refused may be the output itself
        return system_error(refusal)
    return None


def _is_lightnings(error: BaseException) -> bool:
    """Whether Lightning itself has refused a value: settings of its Trainer, or of a callback, that cannot be."""
    frames = traceback.extract_tb(error.__traceback__)
    place = frames[-1].filename if frames else ""
    if isinstance(error, ValueError | TypeError):
        return "/lightning/pytorch/" in place
    return isinstance(error, RuntimeError) and "/lightning/pytorch/callbacks/" in place


def _tell(message: str) -> int:
    line = " ".join(_shorter(word) for word in printable(as_called(message)).split())
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE - 300]} … {line[-300:]}"
    with suppress(OSError, ValueError):  # a closed standard error
        print(f"error: {line}", file=sys.stderr)
    return MISTAKE


def _shorter(word: str) -> str:
    return word if len(word) <= LONGEST_WORD else f"{word[: LONGEST_WORD - 100]}…{word[-100:]}"


def _set_up_logging() -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO, handlers=[StandardError()])
    logging.getLogger().handlers[0].addFilter(_without_adverts)
    logging.getLogger().handlers[0].addFilter(_as_called)
    for noisy in ("httpx", "httpx2", "openai", "filelock", "datasets", "fsspec", "absl", "urllib3", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # warns of a kernel that only 4-bit models would use
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    # The weights are in float32 in bf16-mixed, as the summary counts them.
    warnings.filterwarnings("ignore", message="Precision bf16-mixed is not supported by the model summary")


def _without_adverts(record: logging.LogRecord) -> bool:
    """Whether a line is none of Lightning's tips."""
    return "💡" not in record.getMessage()


def _as_called(record: logging.LogRecord) -> bool:
    """Have a line's commands named as this program was called."""
    record.msg, record.args = printable(as_called(record.getMessage())), ()
    return True


class StandardError(logging.StreamHandler[TextIO]):
    """Prints to what `sys.stderr` is at that moment: a progress bar puts itself in its place, to print above itself."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override] # an attribute that is set once, there
        """The current standard error."""
        return sys.stderr


def _find_config(name: str) -> str:
    for candidate in (name, f"{name}.yaml"):
        found = find(candidate, "configs")
        if found is not None and found.is_file():
            settings = load_mapping(found)  # the parser's own errors do not say which file is at fault
            for key, value in settings.items():
                runs.check_written_out(value, f"{name}: {key}")
            return str(found)
    known = [str(path.relative_to(PROJECT / "configs")) for path in sorted((PROJECT / "configs").rglob("*.yaml"))]
    close = difflib.get_close_matches(name, known, n=1)
    raise InputError(f"--config {name}: no such file here or in configs/{meant(close)}")
