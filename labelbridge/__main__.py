"""The table of commands, for `labelbridge` and `python main.py`. Imports nothing heavy: `--help` answers at once."""

import os
import sys

HELP = """usage: python main.py COMMAND [--config FILE ...] [--key value ...]

Labelled English text and an LLM's text in, a classifier for a language without labels out.

{commands}

FILE is looked up here and then in Labelbridge's configs/, '.yaml' optional; several files merge left to right,
and the command line wins. A command's usual settings: python main.py COMMAND --help; all of them: --help all
"""
# Callbacks that every Trainer command has, by the name of their settings. StopAtNonFinite is first: nothing is scored,
# exported or saved of a model that holds nan. The average gives the weights back after the export. Resume saves last,
# so that its checkpoint knows of what the others have done at the same step.
CALLBACKS = {
    "finite": "StopAtNonFinite",
    "cartography": "CartographyCallback",
    "export": "ExportBest",
    "rows": "RowWriter",
    "throughput": "Throughput",
    "boards": "ShowOnBoards",
    "average": "AverageWeights",
    "resume": "Resume",
}


def current_folder_last() -> None:
    """Have a user's files found after everything that is installed; a callback of one's own is still found.

    Python puts the folder of a script, or with `-m` the current one, first on the module path: a file `datasets.py`
    beside the user's data would be run in the place of the library. Nothing else is imported before this.
    """
    try:
        current = os.path.realpath(os.getcwd())  # noqa: PTH109 - pathlib imports more
    except FileNotFoundError:
        return  # the folder is gone
    others = [entry for entry in sys.path if entry and os.path.realpath(entry) != current]
    sys.path[:] = [*others, current]


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, 2 for a mistake in the input, which is told in one line, or 130 after Ctrl-C.
    """
    current_folder_last()
    if argv is None and "LABELBRIDGE_PRELOADED" in os.environ:  # preloaded.ADDRESS, without its imports
        from .lightning_app.cli.preloaded import run_in_copy

        status = run_in_copy(sys.argv)
        if status is not None:
            return status
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "help"):
        from .lightning_app.core.program import as_called
        from .lightning_app.stages import help_lines

        print(as_called(HELP.format(commands="\n".join(help_lines()))), end="")
        return 0
    from .lightning_app.cli.interrupts import one_line_interrupts

    with one_line_interrupts():
        from .lightning_app.cli.commands import run_function, run_trainer
        from .lightning_app.stages import TRAINER_COMMANDS

        if words[0] in TRAINER_COMMANDS:
            return run_trainer(words, CALLBACKS, _import_callbacks)
        return run_function(words)


def _import_callbacks() -> tuple[dict[str, type], type]:
    """The classes of `CALLBACKS`, and the progress bar; imported here, where all rooms meet."""
    from . import callbacks, datamodules, modules  # noqa: F401 - the latter make the short class names known

    return {key: getattr(callbacks, name) for key, name in CALLBACKS.items()}, callbacks.RunProgressBar


if __name__ == "__main__":
    sys.exit(main())
