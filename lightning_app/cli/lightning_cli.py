"""The Trainer commands: LightningCLI, plus what every stage needs around `fit`, `validate`, `test` and `predict`."""

import inspect
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from ..boards.show import ONCE, settings_of, show_outcome, show_predictions, show_settings
from ..core import artifacts, fingerprint
from ..core.errors import InputError
from ..core.run_parts import WHOLE, Shard, finished_line, read_shard
from ..core.runs import CHECKPOINTS, CONFIG, DYNAMICS, LOGS, Run, State, command_line, output_folder
from ..core.secrets import mask_text
from ..core.task import Task
from ..core.user_code import code_of_class
from ..data.near_duplicates import leakage_lines
from ..evaluation.leakage import leakage
from ..evaluation.metrics import head_metrics
from ..evaluation.predicted_classes import count_classes, one_class_warnings, table_lines
from ..evaluation.unseen import check_unseen
from ..models.fingerprints import check_model_fresh, model_files, model_fingerprint
from ..models.locate import CARD_FACTS, card_facts, locate
from ..protocols import FitData, StageData, StageModule
from ..stages import BY_NAME
from . import identity
from .fit_checkpoints import check_ends_with_model, checkpoint_to_resume, given_checkpoint
from .memory import keep_freed_memory
from .next_steps import Finished, next_line
from .parsers import OneLineErrors
from .returned import check_returned
from .stage_of_run import stage_of_run

log = logging.getLogger(__name__)

# Data parameter -> where its value comes from.
LINKS = {
    "model.init_args.task": "task",
    "data.init_args.task": "task",
    "data.init_args.model": "model.init_args.model",
    "data.init_args.trust_remote_code": "model.init_args.trust_remote_code",
    "data.init_args.revision": "model.init_args.revision",
    "data.init_args.synthetic_labels": "model.init_args.synthetic_labels",
    "model.init_args.seed": "seed_everything",
    "data.init_args.max_new_tokens": "model.init_args.max_new_tokens",
    "data.init_args.target_language": "model.init_args.target_language",
    "data.init_args.source_language": "model.init_args.source_language",
    "data.init_args.target_code": "model.init_args.target_code",
    "data.init_args.source_code": "model.init_args.source_code",
    "data.init_args.prefix": "model.init_args.prefix",  # of a translator, or a sentence encoder
    "data.init_args.seed": "seed_everything",
    "trainer.default_root_dir": "out",
}
# What the model's card holds that a test passes on to the report.
REPORTED = ("gold_counts", "synthetic_counts", "dev", "label_prior")
# Stands where no task is given; sentence pairs need none.
NO_TASK = Task("none", ["text"], ["no", "task"])


class TrainerParser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser with one-line errors."""


class Cli(LightningCLI):
    """LightningCLI with `task`, `out`, `method`, `setting` and `overwrite`, which knows complete and partial runs.

    Args:
        command: `fit`, `validate`, `test` or `predict`: the one that the command line names.
        forced_callbacks: Callbacks that every run has, by the name of their settings; each takes `out` if it can.
        progress_bar: The bar of runs that name no other.
    """

    def __init__(self, command: str, forced_callbacks: dict[str, type], progress_bar: type[ProgressBar]) -> None:
        self.command = command
        self.forced_callbacks = forced_callbacks
        self.progress_bar = progress_bar
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_class=TrainerParser,
            # Loaders bring their own rank slices, and checkpoints exist only to resume (the Resume callback).
            trainer_defaults={"use_distributed_sampler": False, "enable_checkpointing": False},
            load_from_checkpoint_support=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override] # static there
        """The one that runs: the parsers of the other three would take as long again, each."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings that all stages share, and link them to where they are needed."""
        parser.add_argument("--task", type=Task, default=NO_TASK, help="Text columns and labels; see configs/tasks.")
        parser.add_argument("--out", type=str, default="runs/unnamed", help="Where everything of this run is written.")
        parser.add_argument(
            "--method", type=str | None, help="The name of the method in the report; of the model in test."
        )
        parser.add_argument(
            "--setting",
            type=str | None,
            help="zero-shot, translate-train, translate-train-all or translate-test, for the report.",
        )
        parser.add_argument("--overwrite", type=bool, default=False, help="Replace what another run left in `out`.")
        parser.add_argument(
            "--shard",
            type=str | None,
            help="Compute a part of predict or test: 2/4 is the second of four. Once all are through, the same command "
            "without it puts them together.",
        )
        for name, callback in self.forced_callbacks.items():
            parser.add_lightning_class_args(callback, name)
            if "out" in inspect.signature(callback).parameters:
                parser.link_arguments("out", f"{name}.out")
        for target, source in LINKS.items():
            parser.link_arguments(source, target)

    def instantiate_classes(self) -> None:
        """Make module, DataModule and Trainer; what a user's own methods return is checked from here on."""
        super().instantiate_classes()
        check_returned(self.model, StageModule)
        check_returned(self.datamodule, StageData)
        if self.command == "fit":
            check_returned(self.datamodule, FitData)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the progress bar and the TensorBoard logger, unless the user chose others."""
        self._stage_name(str(self.command))  # refuses classes that are of no stage
        chosen = self._get(self.config_init, "trainer")
        callbacks = chosen.get("callbacks") or []
        if chosen.get("enable_progress_bar") is not False and not any(
            isinstance(one, ProgressBar) for one in callbacks
        ):
            kwargs["callbacks"] = [*callbacks, self.progress_bar()]
        device = bf16_device(chosen.get("accelerator")) if self.model.HAS_FILES else None
        if chosen.get("precision") is None and device is not None:
            # Autocast would cast the weights, and most activations, again and again for the sake of their updates.
            half = self.command in ("predict", "test") and self.model.HALF_WEIGHTS
            kwargs["precision"] = "bf16-true" if half else "bf16-mixed"
            log.info(
                "trainer.precision: %s, since this %s has bfloat16 units (32-true turns it off)",
                kwargs["precision"], device,
            )  # fmt: skip
        if chosen.get("logger") in (None, True):
            kwargs["logger"] = TensorBoardLogger(self._setting("out"), name=LOGS, version="")
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ModuleNotFoundError, TypeError, ValueError) as error:
            raise InputError(f"trainer: {error}; change accelerator, devices, strategy or precision") from None
        _check_processes(trainer)
        return trainer

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration alone: a checkpoint's hyperparameters must not override it."""

    def _run_subcommand(self, subcommand: str) -> None:
        with given_checkpoint(self._setting("ckpt_path")):
            super()._run_subcommand(subcommand)

    def fit(self, **arguments: Any) -> None:
        """Train, from the last checkpoint if the run is partial; then write the manifest."""

        def go(run: Run) -> None:
            base = {"base": self.model.model_name, "base_fingerprint": run.identity["model"]["model"]}
            data: FitData = self.datamodule
            facts = {**self._facts(), **data.training_facts(), **base}
            facts["inputs"] = data.inputs("fit")
            self._get(self.config_init, "export").facts = {**facts, "max_length": data.longest_input}
            print_of_run = fingerprint.of_value(run.identity)
            self._get(self.config_init, "resume").run = print_of_run
            checkpoint = checkpoint_to_resume(run.out, print_of_run) if arguments.get("ckpt_path") is None else None
            if checkpoint is not None:
                arguments.update(ckpt_path=str(checkpoint), weights_only=True)
            show_settings(self.trainer.loggers, settings_of(facts, run.identity))
            self.trainer.fit(**arguments)
            if self.trainer.is_global_zero:
                self._finish_fit(run)

        check_ends_with_model(self.trainer)
        self._stage("fit", go)

    def validate(self, **arguments: Any) -> None:
        """Score a model on the source dev set; writes no artifact."""
        self._stage_name("validate")
        self._shard("validate")
        self._check_facts()
        self.model.check("validate")
        self.datamodule.check("validate")
        self.trainer.validate(**arguments)

    def test(self, **arguments: Any) -> None:
        """Score the targets, and write predictions and metrics."""

        def go(run: Run) -> None:
            table = self._rows(run, self.trainer.test, arguments)
            if table is None:
                return
            metrics = self.datamodule.metrics(table)
            for target, numbers in self._head_metrics(table).items():
                metrics[target].update(numbers)
            artifacts.write_json(run.out / artifacts.METRICS, metrics)
            facts = {"metrics": metrics, **self._near_duplicates(texts, task)}
            self._write(run, table, facts, files=[run.out / artifacts.METRICS])
            _log_metrics(metrics)
            self._show_test(run, table, metrics)
            self._warn_of_one_class(run, table)

        self._stage_name("test")
        texts, task = self._data.test_texts(), self._data.stage_task
        if texts is not None and task is not None:
            for name in (self._module.model_name, *self._module.further_models):
                check_unseen(name, texts, task)
        self._stage("test", go)

    def _head_metrics(self, table: Any) -> dict[str, dict[str, float]]:
        """What a test tells of the exported head alone: not of several models, and before `model.prior`."""
        if "probs" not in table.column_names or self._module.further_models:
            return {}
        column = "raw_probs" if "raw_probs" in table.column_names else "probs"
        return head_metrics(table, self.model.task, card_facts(self.model.model_name), column)

    def predict(self, **arguments: Any) -> None:
        """Write one output row for each input row."""

        def go(run: Run) -> None:
            table = self._rows(run, self.trainer.predict, {**arguments, "return_predictions": False})
            if table is None:
                return
            written = self._data.finish(table)
            facts = {**self._class_facts(run, written.table), **written.facts}
            self._write(run, written.table, facts, written.rejected, allow_empty=written.allow_empty)
            self._warn_of_one_class(run, written.table)

        self._stage("predict", go)

    def _stage(self, subcommand: str, go: Callable[[Run], None]) -> None:
        """Claim the output folder, then go; a complete run is left as it is."""
        stage = self._stage_name(subcommand)
        if self._data.stage_task == NO_TASK:
            raise InputError("task: not given, expected name, columns and labels; lay a file of configs/tasks over it")
        self._check_facts()
        self.model.check(subcommand)
        self._data.check(subcommand)
        for name in self._model_folders:
            check_model_fresh(name)
        shard = self._shard(subcommand)
        claim = Run(output_folder(self._setting("out")), stage, self._identity(subcommand), shard)
        with _stoppable(self.trainer, claim.out), claim as run:
            if self.trainer.is_global_zero:
                state = run.begin(self._setting("overwrite"), self._reads(subcommand))
                if state is State.COMPLETE:
                    _log_metrics(artifacts.read_manifest(run.out).facts.get("metrics", {}))
                    self._conclude(run)
                    return
                self._save_config(run.out)
            elif run.is_complete():
                return  # a rank that was started beside rank 0, not by it
            if subcommand == "fit" and self.trainer.strategy.root_device.type == "cpu":
                keep_freed_memory()
            go(run)
            if self.trainer.is_global_zero and shard == WHOLE:
                self._conclude(run)

    def _shard(self, subcommand: str) -> Shard:
        """Which part of the rows this command computes.

        Raises:
            InputError: If it is given to a command that writes no rows.
        """
        if self._setting("shard") is None:
            return WHOLE
        if subcommand not in ("predict", "test"):
            raise InputError(
                f"shard is given to {subcommand}, expected predict, test or clean; several devices share a fit"
            )
        return read_shard(self._setting("shard"))

    def _reads(self, subcommand: str) -> list[str]:
        """Paths of what a run reads, and names of its models."""
        listed = [place for one in self.datamodule.inputs(subcommand).values() for place in one["paths"]]
        models = [*self._module.model_paths, *self._module.further_models]
        return [*listed, *models, *filter(None, [self._setting("ckpt_path")])]

    def _conclude(self, run: Run) -> None:
        """Print what a complete run ends with: the classes of pseudolabels, and the next command."""
        facts = artifacts.read_manifest(run.out).facts
        if run.stage == "pseudolabel":
            for line in table_lines(facts.get("classes", {})):
                log.info("%s", line)
        name = self.model.model_name
        finished = Finished(
            run.stage,
            str(run.out),
            self._data.stage_task,
            self._data.pool_source,
            name,
            facts,
            self._variant(run.stage, facts),
        )
        if (ending := next_line(finished)) is not None:
            log.info("%s", ending)

    def _variant(self, stage: str, facts: dict[str, Any]) -> str | None:
        """Which of its stage's next steps applies to this run, where there are several."""
        if stage == "score" and not (Path(self._module.model_name) / CARD_FACTS).is_file():
            return "model is not ours"
        variant = self._data.next_variant(facts)
        return variant if variant in BY_NAME[stage].next else None

    def _show_test(self, run: Run, table: Any, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Show a test's numbers on the run's board, and of a classifier what it confuses."""
        loggers, task = self.trainer.loggers, self._data.stage_task
        by_target = {target: _numbers(values) for target, values in metrics.items()}
        for logger in loggers:
            for target, values in by_target.items():
                logger.log_metrics({f"{ONCE}/{target}/{name}": value for name, value in values.items()}, step=0)
        known = {} if self._model_folder is None else card_facts(self._model_folder)
        facts = {**known, **self._facts()}
        compared = {
            f"{ONCE}/{target}/{name}": values[name]
            for target, values in by_target.items()
            for name in ("accuracy", "macro_f1")
            if name in values
        }
        if task is not None and compared:
            show_predictions(loggers, table, task)
            show_outcome(loggers, settings_of(facts, {**self._training(run), "stage": run.stage}), compared, 0)

    def _training(self, run: Run) -> Mapping[str, Any]:
        """The settings under which a tested model was trained, if its run is there; else those of the test."""
        folder = self._model_folder
        trained = artifacts.manifest_of(Path(locate(folder)).parent) if folder is not None else None
        return trained.config if trained is not None and "model" in trained.config else run.identity

    def _class_facts(self, run: Run, table: Any) -> dict[str, Any]:
        """How often each class was predicted, if these are pseudolabels."""
        if run.stage != "pseudolabel":
            return {}
        labels = self.datamodule.task.labels
        probs_NC = table["probs"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, len(labels))
        return {"classes": count_classes(table["prediction"].to_pylist(), probs_NC, labels)}

    def _near_duplicates(self, texts: Any, task: Task | None) -> dict[str, Any]:
        """How many of the targets' rows the model's training data nearly repeat; nothing for sentence pairs."""
        if texts is None or task is None:
            return {}
        found = leakage([self._module.model_name, *self._module.further_models], texts, task)
        for line in leakage_lines(found):
            log.warning("%s", line)
        return {"leakage": found}

    def _warn_of_one_class(self, run: Run, table: Any) -> None:
        """Warn of a pool, or of each target, whose rows were all predicted as one class."""
        if run.stage not in ("pseudolabel", "test"):
            return
        predictions = table["prediction"].to_pylist()
        if run.stage == "test":
            places = table["target"].to_pylist()
            remedy = "check model.learning_rate and the accuracy on dev, and whether the encoder knows this language"
        else:
            places = ["pool"] * len(predictions)
            remedy = "check the teacher's accuracy on dev before selecting from these rows"
        labels = self._data.known_labels(table)
        for warning in one_class_warnings(places, predictions, labels, remedy):
            log.warning("%s", warning)

    def _rows(self, run: Run, loop: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Compute the rows that are not on the disk yet, and merge all in input order (on rank 0; elsewhere None)."""
        spool = self._get(self.config_init, "rows").spool
        expected = self.datamodule.output_rows(self.subcommand)
        self.datamodule.finished_rows = spool.finished()
        self.datamodule.shard = run.shard
        if len(self.datamodule.finished_rows):
            log.info("%s: %d of %d rows are finished", run.out, len(self.datamodule.finished_rows), expected.num_rows)
        if len(self.datamodule.finished_rows) < expected.num_rows:
            loop(**arguments)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # every rank has put its last rows on the disk
        if not self.trainer.is_global_zero:
            return None
        if run.shard != WHOLE:
            log.info("%s", finished_line(run.out, run.shard, len(spool.finished()), expected.num_rows))
            return None
        merged = spool.merge(expected.num_rows)
        for column in merged.column_names:
            expected = expected.append_column(merged.field(column), merged[column])
        return expected

    def _write(
        self,
        run: Run,
        table: Any,
        facts: dict[str, Any],
        rejected: Any = None,
        files: Sequence[Path] = (),
        *,
        allow_empty: bool = False,
    ) -> None:
        """Write the run's artifact; rows that it keeps aside lie in an artifact of their own inside it."""
        inputs = self.datamodule.inputs(self.subcommand)
        role = "teacher" if run.stage == "pseudolabel" else "model"
        inputs[role] = {"paths": self._module.model_paths, "fingerprint": run.identity["model"]["model"]}
        for number, member in enumerate(self._module.further_models, start=2):
            inputs[f"{role}.{number}"] = artifacts.reference(member, model_fingerprint(member))
        shared: dict[str, Any] = {
            "inputs": inputs, "lineage": self.datamodule.lineage, "config": run.identity, "command": command_line(),
        }  # fmt: skip
        if rejected is not None:
            artifacts.write(run.out / artifacts.REJECTED, rejected, stage="rejected", **shared)
            files = artifacts.files_of(run.out / artifacts.REJECTED)
            if rejected.num_rows and not table.num_rows and not allow_empty:
                raise InputError(
                    f"{run.out}: all {rejected.num_rows} rows were rejected, {facts['gates']}; look at them with "
                    f'"python main.py peek {run.out / artifacts.REJECTED}", then change gates or engine, or accept an '
                    "empty translation with --data.allow_empty true, and add --overwrite=true"
                )
        artifacts.write(run.out, table, stage=run.stage, facts={**self._facts(), **facts}, files=files, **shared)
        self._get(self.config_init, "rows").spool.clear()
        log.info("%s: %d rows written", run.out, table.num_rows)

    def _finish_fit(self, run: Run) -> None:
        """Write the manifest of a finished fit and drop its checkpoints."""
        model = run.out / "model"
        if not model.is_dir():
            raise InputError(f"{run.out}: no check on the source dev set happened, so there is no best model; set "
                             "trainer.val_check_interval or trainer.check_val_every_n_epoch")  # fmt: skip
        base = artifacts.reference(self.model.model_name, run.identity["model"]["model"])
        dynamics = [run.out / name for name in DYNAMICS if artifacts.is_whole(run.out / name)]
        artifacts.write(
            run.out,
            None,
            stage=run.stage,
            fingerprint_of_files=model_fingerprint(str(model)),
            files=[*model_files(model), *(file for folder in dynamics for file in artifacts.files_of(folder))],
            inputs={**self.datamodule.inputs("fit"), "base": base},
            lineage=self.datamodule.lineage,
            config=run.identity,
            facts=card_facts(str(model)),
            command=command_line(),
        )
        shutil.rmtree(run.out / CHECKPOINTS, ignore_errors=True)
        facts = card_facts(str(model))
        if "task" in facts:
            numbers = {f"{ONCE}/{name}": value for name, value in facts["dev"].items()}
            show_outcome(self.trainer.loggers, settings_of(facts, run.identity), numbers, facts["step"])
        log.info("%s: finished, best model in %s", run.out, model)

    def _check_facts(self) -> None:
        """Refuse models whose `labelbridge.json` is malformed, before any row is read."""
        for name in self._model_folders:
            card_facts(name)

    @property
    def _model_folders(self) -> list[str]:
        """The names of all models that are read from files."""
        return [self._module.model_name, *self._module.further_models] if self._module.HAS_FILES else []

    @property
    def _model_folder(self) -> str | None:
        """The model's name, if it stands for files rather than for a server's model."""
        return self._module.model_name if self._module.HAS_FILES else None

    def _facts(self) -> dict[str, Any]:
        """What the report needs to know; of a trained model, what was said when it was trained."""
        folder = self._model_folder if self.subcommand != "fit" else None
        known = card_facts(folder) if folder is not None else {}
        task = self._data.stage_task
        return {
            **{name: known[name] for name in REPORTED if name in known},
            **self._module.facts(),
            **({"task": asdict(task), "labels": task.labels} if task is not None else {}),
            "method": self._setting("method") or known.get("method") or self.model.model_name,
            "setting": self._setting("setting") or known.get("setting") or "zero-shot",
            "seed": known.get("seed", self._setting("seed_everything")),
        }

    def _identity(self, subcommand: str) -> dict[str, Any]:
        """Every setting that is not harmless, and what module and DataModule say of their inputs; see `identity`."""
        training_alone = () if subcommand == "fit" else self._module.TRAINING_ALONE
        own_model = identity.class_settings(self._setting("model"), identity.MODEL_HARMLESS, training_alone)
        own_data = identity.class_settings(self._setting("data"), identity.DATA_HARMLESS)
        counted: dict[str, Any] = {
            "model": {**own_model, **self._module.identity(subcommand), **_code(self.model)},
            "data": {**own_data, **self._data.identity(subcommand), **_code(self.datamodule)},
            "trainer": {
                **identity.trainer_settings(self._setting("trainer"), subcommand),
                "precision": str(self.trainer.precision),
            },
            "method": self._setting("method"),
            "setting": self._setting("setting"),
            "ckpt_path": identity.checkpoint(self._setting("ckpt_path")),
        }
        if subcommand == "fit":
            rows = self.datamodule.batch_size * self.trainer.accumulate_grad_batches * self.trainer.world_size
            counted["rows_per_step"] = rows
            counted["seed_everything"] = self._setting("seed_everything")
            for name in self.forced_callbacks:
                own = identity.forced_callback_settings(self._setting(name) or {}, name)
                counted.update({name: own} if own else {})
        return counted

    def _stage_name(self, subcommand: str) -> str:
        return stage_of_run(subcommand, type(self.model), type(self.datamodule)).name

    def _save_config(self, out: Path) -> None:
        parser = self._parser(self.subcommand)
        config = self.config[str(self.subcommand)]
        text = mask_text(parser.dump(config, skip_unset=False))
        (out / CONFIG).write_text(text, encoding="utf-8")

    @property
    def _module(self) -> StageModule:
        """The module, which is that of a stage, as `stage_of_run` makes sure."""
        module: Any = self.model
        return module  # type: ignore[no-any-return]

    @property
    def _data(self) -> StageData:
        """The DataModule, which is that of a stage."""
        data: Any = self.datamodule
        return data  # type: ignore[no-any-return]

    def _setting(self, key: str) -> Any:
        return self._get(self.config, key)


def _code(of: object) -> dict[str, str]:
    """The code of a class of a user's own, by its fingerprint."""
    code = code_of_class(type(of))
    return {"code": code} if code is not None else {}


def _log_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what a test found on each target."""
    for target, values in metrics.items():
        log.info("%s: %s", target, ", ".join(f"{name} {value:.4g}" for name, value in _numbers(values).items()))


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, float)}


def bf16_device(accelerator: Any) -> Literal["CPU", "GPU"] | None:
    """The run's device, if it multiplies in bfloat16 itself, and so is two to four times as fast with it.

    ATEN_CPU_CAPABILITY, by which torch is held to older instructions, is respected.
    """
    if accelerator in (None, "auto", "gpu", "cuda") and torch.cuda.is_available():
        return "GPU" if torch.cuda.is_bf16_supported(including_emulation=False) else None
    on_cpu = accelerator == "cpu" or (accelerator in (None, "auto") and not torch.accelerator.is_available())
    if not on_cpu or not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return None
    units = torch.cpu.get_capabilities()
    return "CPU" if units.get("amx_bf16") or units.get("avx512_bf16") else None


def _check_processes(trainer: Trainer) -> None:
    """Refuse processes that could not be started, or would wait for others that nobody starts.

    Raises:
        InputError: Names the setting.
    """
    strategy = trainer.strategy
    starts_itself = isinstance(strategy, ParallelStrategy) and isinstance(
        strategy.cluster_environment, LightningEnvironment
    )
    if trainer.num_nodes > 1 and starts_itself and "MASTER_ADDR" not in os.environ:
        raise InputError(
            f"trainer.num_nodes is {trainer.num_nodes}, but no launcher has started this process, expected torchrun or "
            "srun on every node; start it with one, or leave num_nodes out"
        )
    if isinstance(strategy.launcher, _MultiProcessingLauncher) and strategy.launcher._start_method == "spawn":
        raise InputError(
            "trainer.strategy: starts processes by spawn, for which a running command cannot be packed, expected ddp; "
            "change trainer.strategy"
        )


@contextmanager
def _stoppable(trainer: Trainer, out: Path) -> Iterator[None]:
    """End at once on SIGTERM and Ctrl-C, and say how to resume.

    This is for the time before and after the Trainer's loops, when nothing is at hand that has to be finished; inside
    them the callbacks take the signals over.
    """

    def stop(number: int, *_: object) -> None:
        launcher: Any = trainer.strategy.launcher if trainer.is_global_zero else None
        if launcher is not None:
            launcher.kill(signal.SIGTERM)
        ranks = [one for one in getattr(launcher, "procs", []) if isinstance(one, BaseProcess)]
        for rank in ranks:  # forked ones save, and rank 0 among them says how to resume
            rank.join()
        if trainer.is_global_zero and not ranks:
            log.warning("stopped on request, what is finished is saved in %s; resume with: %s", out, command_line())
        raise SystemExit(128 + number)

    previous = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)
