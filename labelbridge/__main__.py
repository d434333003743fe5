"""The table of commands, for `labelbridge` and `python main.py`. Imports nothing heavy: `--help` answers at once."""

import os
import sys

HELP = """usage: python main.py COMMAND [--config FILE ...] [--key value ...]

Labelled English text and an LLM's text in, a classifier for a language without labels out.

Trainer commands (PyTorch Lightning):
  fit        train a teacher or a student,           --config teacher.yaml | student.yaml
             fine-tune a translator                  --config codemix.yaml
  validate   score a model on the source dev set     --config validate.yaml
  test       score a model on target sets,           --config test.yaml
             a translator on held-out pairs          --config codemix_test.yaml
  predict    write rows: raw generations,            --config generate.yaml
             translations,                           --config translate.yaml
             pseudolabels, embeddings                --config pseudolabel.yaml | embed.yaml

Other commands:
  clean      raw generations to the pool             --config clean.yaml
  select     keep the pool rows worth learning from  --config select.yaml
  report     one table from any number of tests      --config report.yaml
  export     make a model folder ready for the Hub   --model RUN/model --out FOLDER
  peek       look into an artifact                   ARTIFACT

FILE is looked up here and then in Labelbridge's configs/, '.yaml' optional; several files merge left to right,
and the command line wins. A command's usual settings: python main.py COMMAND --help; all of them: --help all
"""
TRAINER_COMMANDS = ("fit", "validate", "test", "predict")
# Callbacks that every Trainer command has, by the name of their settings. StopAtNonFinite is first: nothing is scored,
# exported or saved of a model that holds nan. The average gives the weights back after the export. Resume saves last,
# so that its checkpoint knows of what the others have done at the same step.
CALLBACKS = {
    "finite": "StopAtNonFinite",
    "cartography": "CartographyCallback",
    "export": "ExportBest",
    "rows": "RowWriter",
    "throughput": "Throughput",
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
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "help"):
        from .lightning_app.core.program import as_called

        print(as_called(HELP), end="")
        return 0
    from .lightning_app.cli.interrupts import one_line_interrupts

    with one_line_interrupts():
        from .lightning_app.cli.commands import run_function, run_trainer

        if words[0] in TRAINER_COMMANDS:
            return run_trainer(words, CALLBACKS, _import_callbacks)
        return run_function(words)


def _import_callbacks() -> tuple[dict[str, type], type]:
    """The classes of `CALLBACKS`, and the progress bar; imported here, where all rooms meet."""
    from . import callbacks, datamodules, modules  # noqa: F401 - the latter make the short class names known

    return {key: getattr(callbacks, name) for key, name in CALLBACKS.items()}, callbacks.RunProgressBar


if __name__ == "__main__":
    sys.exit(main())
