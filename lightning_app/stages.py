"""The table of stages: the one place that says which stages and commands there are.

The help of `python main.py`, the commands that errors name, the suggested next commands, the check that module and
DataModule fit the command, and the table in `docs/artifacts.md` all come from here. To add a stage, add a row and write
the function, or the module and DataModule, that the row names. This file imports nothing heavy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PROGRAM = "python main.py"  # as in a checkout; `core.program.as_called` puts the name of this process in its place
TRAINER_COMMANDS = ("fit", "validate", "test", "predict")


@dataclass(frozen=True)
class Step:
    """A command to suggest.

    Args:
        words: The command, such as `fit`, or words that are complete but for `{out}`.
        config: Its configuration file.
        settings: Key -> value. `{out}`, `{folder}` (the folder that holds it), `{model}` and the like are replaced;
            `{pool}` alone is the pool that the stage read, omitted if it read none.
        of_own_task: Settings that a task other than the configuration's requires too, unless they are given. Words in
            capitals are for the user to replace.
    """

    words: tuple[str, ...]
    config: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    of_own_task: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A row of the table.

    Args:
        name: The stage, which is also the kind of the artifact that it writes.
        command: The command that runs it.
        does: What the command does, for the help.
        config: The default configuration file.
        function: The function that a command without a Trainer calls, by its import path.
        modules: Import paths of the LightningModules that a Trainer command takes; their subclasses serve too.
        data: Import paths of the DataModules that a Trainer command takes; their subclasses serve too.
        reads: What it reads, for the documentation.
        writes: What it writes, for the documentation; None if it writes no artifact.
        also: Further artifacts that it writes: kind -> the command-line words that ask for them.
        options: Options that the help shows where there is no configuration file.
        next: What comes next, by variant: None is the usual one.
    """

    name: str
    command: str
    does: str
    config: str | None = None
    function: str | None = None
    modules: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    reads: str = ""
    writes: str | None = None
    also: Mapping[str, str] = field(default_factory=dict)
    options: str = ""
    next: Mapping[str | None, Step] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The command line, with the default configuration."""
        return f"{PROGRAM} {self.command}" + (f" --config {self.config}" if self.config else "")


_MODULES = "labelbridge.modules"
_DATA = "labelbridge.datamodules"
_APP = "labelbridge.lightning_app"
_GOLD = {"data.train": "GOLD", "data.dev": "DEV"}
_PSEUDOLABEL = ("predict",), "pseudolabel.yaml"

STAGES: tuple[Stage, ...] = (
    Stage(
        "generate",
        "predict",
        "write raw generations with an LLM",
        "generate.yaml",
        modules=(f"{_MODULES}.generator.GeneratorModule",),
        data=(f"{_DATA}.prompts.PromptDataModule",),
        reads="prompt templates, an LLM",
        writes="raw generations",
        next={
            None: Step(("clean",), "clean.yaml", {"raw": "{out}"}, {"exclude": "null"}),
            # The first text of a pair, such as a premise.
            "first text": Step(
                ("clean",), "clean.yaml", {"raw": "{out}", "text_column": "{first_column}"}, {"exclude": "null"}
            ),
        },
    ),
    Stage(
        "clean",
        "clean",
        "raw generations to the pool",
        "clean.yaml",
        function=f"{_APP}.generation.cleaning.clean",
        reads="raw generations",
        writes="pool; rejected rows with reasons",
        next={
            None: Step(("fit",), "teacher.yaml", {"data.pool": "{out}"}, _GOLD),
            "teacher is trained": Step(*_PSEUDOLABEL, {"data.pool": "{out}"}),
            "first text": Step(("predict",), "generate.yaml", {"data.prompts": "PROMPTS", "data.source": "{out}"}),
        },
    ),
    Stage(
        "translate",
        "predict",
        "translate rows",
        "translate.yaml",
        modules=(f"{_MODULES}.translator.TranslatorModule",),
        data=(f"{_DATA}.texts.TextDataModule",),
        reads="gold, pool, selection or targets; a dictionary or a translation model",
        writes="the same rows in another language; rejected rows with reasons",
        next={
            "gold": Step(
                ("fit",), "teacher.yaml",
                {"setting": "{setting}", "data.train": "{out}", "data.dev": "TRANSLATED_DEV"},
            ),
            "pool": Step(*_PSEUDOLABEL, {"data.pool": "{out}"}),
            "selection": Step(
                ("fit",), "student.yaml",
                {
                    "setting": "{setting}", "data.train": "TRANSLATED_GOLD", "data.dev": "TRANSLATED_DEV",
                    "data.selection": "{out}",
                },
            ),
            "targets": Step(
                ("test",), "test.yaml",
                {"setting": "{setting}", "data.targets": '{"{source_language}": "{out}"}'},
            ),
            "no labels": Step(("predict",), "embed.yaml", {"data.pool": "{out}", "data.prompt_labels": "false"}),
        },
    ),
    Stage(
        "teacher",
        "fit",
        "train a teacher",
        "teacher.yaml",
        modules=(f"{_MODULES}.teacher.TeacherModule",),
        data=(f"{_DATA}.gold.GoldDataModule",),
        reads="gold; the pool, for training dynamics",
        writes="model folder; training dynamics",
        also={"dynamics": "--data.pool POOL"},
        next={
            None: Step(
                *_PSEUDOLABEL, {"model.model": "{out}/model", "data.pool": "{pool}"}, {"data.pool": "POOL"}
            )
        },
    ),
    Stage(
        "pseudolabel",
        "predict",
        "label the pool with the teacher",
        "pseudolabel.yaml",
        modules=(f"{_MODULES}.classifier.ClassifierModule",),
        data=(f"{_DATA}.pool.PoolDataModule",),
        reads="pool, teacher",
        writes="pseudolabels",
        next={
            None: Step(("select",), "select.yaml", {"pool": "{pool}", "pseudolabels": "{out}"}),
            # Self-training.
            "target text": Step(
                ("select",), "select.yaml",
                {"pool": "{pool}", "prompt_labels": "false", "pseudolabels": "{out}", "strategy": "certain"},
            ),
        },
    ),
    Stage(
        "embed",
        "predict",
        "embed the pool",
        "embed.yaml",
        modules=(f"{_MODULES}.embedder.EmbedderModule",),
        data=(f"{_DATA}.pool.PoolDataModule",),
        reads="pool or unlabelled target text, a sentence encoder",
        writes="embeddings",
        next={
            None: Step(
                ("select",), "select.yaml",
                {
                    "strategy": "diverse", "pool": "{pool}", "pseudolabels": "{folder}/pseudolabel",
                    "embeddings": "{out}", "out": "{folder}/select-diverse",
                },
            ),
            "target text": Step(
                ("select",), "select.yaml",
                {
                    "strategy": "near_target", "pseudolabels": "{folder}/pseudolabel", "embeddings": "{folder}/embed",
                    "target_embeddings": "{out}", "out": "{folder}/select-near",
                },
                {"pool": "POOL"},
            ),
        },
    ),
    Stage(
        "select",
        "select",
        "keep the pool rows worth learning from",
        "select.yaml",
        function=f"{_APP}.selection.select.select",
        reads="pool; pseudolabels, training dynamics, embeddings as the strategy requires",
        writes="selection",
        next={None: Step(("fit",), "student.yaml", {"data.selection": "{out}"}, _GOLD)},
    ),
    Stage(
        "student",
        "fit",
        "train a student",
        "student.yaml",
        modules=(f"{_MODULES}.student.StudentModule",),
        data=(f"{_DATA}.mixed.MixedDataModule",),
        reads="gold, selection",
        writes="model folder",
        next={
            None: Step(
                ("test",), "test.yaml", {"model.model": "{out}/model"}, {"data.targets": '{"NAME": "TARGET"}'}
            )
        },
    ),
    Stage(
        "codemix",
        "fit",
        "fine-tune a translator",
        "codemix.yaml",
        modules=(f"{_MODULES}.seq2seq.Seq2SeqModule",),
        data=(f"{_DATA}.pairs.PairsDataModule",),
        reads="sentence pairs, a translation model",
        writes="model folder",
        next={None: Step(("test",), "codemix_test.yaml", {"model.model": "{out}/model"})},
    ),
    Stage(
        "validate",
        "validate",
        "score a model on the source dev set",
        "validate.yaml",
        modules=(f"{_MODULES}.classifier.ClassifierModule", f"{_MODULES}.seq2seq.Seq2SeqModule"),
        data=(f"{_DATA}.gold.GoldDataModule", f"{_DATA}.pairs.PairsDataModule"),
        reads="source dev set, model folder",
    ),
    Stage(
        "test",
        "test",
        "score a model on target sets",
        "test.yaml",
        modules=(f"{_MODULES}.classifier.ClassifierModule",),
        data=(f"{_DATA}.gold.GoldDataModule",),
        reads="targets, model folder",
        writes="predictions, metrics",
        next={None: Step(("report",), "report.yaml", {"runs": "{out}"})},
    ),
    Stage(
        "score",
        "test",
        "score a translator on held-out pairs",
        "codemix_test.yaml",
        modules=(f"{_MODULES}.translator.TranslatorModule",),
        data=(f"{_DATA}.pairs.PairsDataModule",),
        reads="sentence pairs, a translator",
        writes="translations, metrics",
        next={
            None: Step(("export",), None, {"model": "{model}", "test": "{out}", "out": "{folder}/export-{name}"}),
            "model is not ours": Step(("peek", "{out}")),
        },
    ),
    Stage(
        "annotate",
        "annotate",
        "have people label a sample",
        "annotate.yaml",
        function=f"{_APP}.annotation.annotate.annotate",
        reads="selection; filled-in sheets",
        writes="sample with blind sheets; judged rows and their agreement",
        also={"judged": "--answers '[SHEET, SHEET]'"},
    ),
    Stage(
        "report",
        "report",
        "one table from any number of tests",
        "report.yaml",
        function=f"{_APP}.evaluation.report.report",
        reads="predictions of many runs",
        writes="tables as Markdown, LaTeX, CSV, JSON and rows; one HTML page",
    ),
    Stage(
        "export",
        "export",
        "make a model folder ready for the Hub",
        function=f"{_APP}.models.export.export",
        options="--model RUN/model --out FOLDER",
        reads="model folder, or a selection",
        next={None: Step(("hf", "upload", "USER/NAME", "{out}"))},
    ),
    Stage("peek", "peek", "look into an artifact", function=f"{_APP}.cli.peek.peek", options="ARTIFACT"),
)  # fmt: skip
BY_NAME: Mapping[str, Stage] = {stage.name: stage for stage in STAGES}
TRAINED: tuple[Stage, ...] = tuple(stage for stage in STAGES if stage.command == "fit")  # they write a model folder
COMMANDS: tuple[str, ...] = tuple(dict.fromkeys([*TRAINER_COMMANDS, *(stage.command for stage in STAGES)]))
FUNCTIONS: Mapping[str, str] = {stage.command: stage.function for stage in STAGES if stage.function is not None}


def maker(kind: str) -> str | None:
    """The command line that makes an artifact of a kind, such as `select` or `dynamics`; None if no stage does."""
    for stage in STAGES:
        if stage.name == kind and stage.writes is not None:
            return stage.line
        if kind in stage.also:
            return f"{stage.line} {stage.also[kind]}"
    return None


def of_module(command: str, bases: Sequence[type]) -> Stage | None:
    """The stage that a Trainer command runs with a module.

    Args:
        command: `fit`, `validate`, `test` or `predict`.
        bases: The module's class and its bases, in method resolution order: the nearest one decides.
    """
    rows = [stage for stage in STAGES if stage.command == command]
    return next((stage for base in bases for stage in rows if _path(base) in stage.modules), None)


def commands_of_module(bases: Sequence[type]) -> list[str]:
    """The Trainer commands that have a stage for a module."""
    return [command for command in TRAINER_COMMANDS if of_module(command, bases) is not None]


def stages_of_data(bases: Sequence[type]) -> list[Stage]:
    """The stages that take a DataModule; empty for a class that no row of the table names."""
    names = {_path(base) for base in bases}
    return [stage for stage in STAGES if names & set(stage.data)]


def help_lines() -> list[str]:
    """A line for each stage: the command at its first one, what it does, and the configuration."""
    lines = []
    for command in COMMANDS:
        for number, stage in enumerate(stage for stage in STAGES if stage.command == command):
            words = f"--config {stage.config}" if stage.config else stage.options
            lines.append(f"  {command if number == 0 else '':<10} {stage.does:<40} {words}")
    return lines


def markdown_table() -> list[str]:
    """The table of the documentation: the stages that read or write an artifact."""
    shown = [stage for stage in STAGES if stage.reads]
    return [
        "| stage | command | reads | writes |",
        "|---|---|---|---|",
        *(f"| `{stage.name}` | `{stage.line}` | {stage.reads} | {stage.writes or 'no artifact'} |" for stage in shown),
    ]


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
