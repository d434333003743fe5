"""Labelled rows: to train on, to choose the checkpoint by, and to test on."""

import logging
from collections import Counter
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import DataLoader

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.ranges import check_range
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Rows, Source, load_rows
from labelbridge.lightning_app.evaluation.metrics import target_metrics

from .base import RowsDataModule
from .batches import Batch, RowBatches, WindowLoader
from .encoding import Encoded, joined

SOURCE_LANGUAGE = "en"  # of gold that states none
OUTPUT = ("id", "target", "lang", "label")
PREDICTED = ("prediction", "probs")  # the columns that a test adds

log = logging.getLogger(__name__)


class GoldDataModule(RowsDataModule):
    """Gold rows for fit, the source dev set for validation, any number of named targets for test.

    In fit and validate `targets` must be empty: no target label reaches training or the choice of the checkpoint.

    Args:
        train: Gold rows, one source or several; `[]` for none.
        dev: The source dev set, in the language of the gold.
        targets: Name -> labelled rows; read by test alone.
        pool: If given, fit scores these rows after every epoch (training dynamics); they are not trained on.
        gold_dynamics: Score the gold rows too: the classic data map.
        batch_size: Rows that a device passes through the model at once. With `trainer.accumulate_grad_batches` and
            the number of devices it gives the rows of an optimizer step, which are sorted by length and cut.
        seed: Seed of the order of rows; linked to `seed_everything`.
        **rows: As for `RowsDataModule`.
    """

    SUBCOMMANDS: ClassVar[tuple[str, ...]] = ("fit", "validate", "test")

    def __init__(
        self,
        train: Source | list[Source] | None = None,
        dev: Source | list[Source] | None = None,
        targets: dict[str, Source] | None = None,
        pool: Source | list[Source] | None = None,
        gold_dynamics: bool = False,
        batch_size: int = 32,
        seed: int = 0,
        **rows: Any,
    ) -> None:
        super().__init__(**rows)
        check_range("data.batch_size", batch_size, least=1)
        self.train = train
        self.dev = dev
        self.targets = targets or {}
        self.pool = pool
        self.gold_dynamics = gold_dynamics
        self.batch_size = batch_size
        self.seed = seed
        self.encoded: dict[str, Encoded] = {}

    @cached_property
    def train_rows(self) -> Rows:
        """The gold rows."""
        return self._labelled("train", self.train)

    @cached_property
    def dev_rows(self) -> Rows:
        """The source dev set.

        Raises:
            InputError: If it is in another language than the gold (English, where that states none), or in a language
                that the gold was translated into without being a translation itself: it would be a target.
        """
        rows = self._labelled("dev", self.dev)
        learned, dev = languages_of(self.source_rows) or {SOURCE_LANGUAGE}, languages_of(rows)
        place = f"data.dev {', '.join(rows.places)}"
        if not dev <= learned:
            raise InputError(
                f"{place}: language {sorted(dev - learned)} is not the gold's {sorted(learned)}, "
                "so it is a target, whose labels may not choose the checkpoint; give one in the source language, or "
                "say with `language` what the gold is in"
            )
        foreign = dev & translated_into(self.source_rows) - translated_into(rows)
        if foreign:
            raise InputError(
                f"{place}: rows in {sorted(foreign)}, which the gold was translated into, but no translation "
                "themselves, so they are a target, whose labels may not choose the checkpoint; translate the source dev"
            )
        return rows

    @property
    def source_rows(self) -> Rows:
        """The rows whose language the dev set must be in."""
        return self.train_rows

    @cached_property
    def pool_rows(self) -> Rows | None:
        """The rows that fit scores after every epoch, if any."""
        return None if self.pool is None else load_rows(self.pool, self.task, "prompt_label")

    @cached_property
    def rows_by_target(self) -> dict[str, Rows]:
        """Every target's rows.

        Raises:
            InputError: If there is no target, a target has no rows, or it keeps a column that a test writes.
        """
        if not self.targets:
            raise InputError("data.targets: empty, expected one or more named sources to test on; see test.yaml")
        found = {name: load_rows(source, self.task, "label") for name, source in self.targets.items()}
        for name, rows in found.items():
            if not len(rows.table):
                raise InputError(f"data.targets.{name} {', '.join(rows.places)}: no rows, expected at least one")
            taken = [column for column in rows.table.column_names if column in ("target", *PREDICTED)]
            if taken:
                raise InputError(
                    f"data.targets.{name}.keep: '{taken[0]}' is a column of the predictions; name the others in `keep`"
                )
        return found

    @cached_property
    def target_rows(self) -> Rows:
        """All targets in one table, with a `target` column; ids are told apart by the target's name."""
        tables = [
            rows.table.append_column("target", pa.array([name] * rows.table.num_rows, pa.string()))
            for name, rows in self.rows_by_target.items()
        ]
        places = [place for rows in self.rows_by_target.values() for place in rows.places]
        return Rows(pa.concat_tables(tables, promote_options="default"), {}, places, {})

    def inputs(self, subcommand: str) -> dict[str, dict[str, str]]:
        """See `RowsDataModule.inputs`."""
        if subcommand == "test":
            return {f"target.{name}": rows.reference for name, rows in self.rows_by_target.items()}
        self._refuse_targets(subcommand)
        named = {"gold": self.train_rows, "dev": self.dev_rows} if subcommand == "fit" else {"dev": self.dev_rows}
        if subcommand == "fit" and self.pool_rows is not None:
            named["pool"] = self.pool_rows
        return {name: rows.reference for name, rows in named.items()}

    def identity(self, subcommand: str) -> dict[str, Any]:
        """See `RowsDataModule.identity`."""
        identity = super().identity(subcommand)
        if subcommand == "test":
            identity["targets"] = list(self.targets)
        if subcommand == "fit":
            identity["seed"] = self.seed
            if self.gold_dynamics:
                identity["gold_dynamics"] = True
        return identity

    def training_facts(self) -> dict[str, Any]:
        """Gold rows per label, in the task's order and without synthetic rows; all zero for a model without gold."""
        counts = Counter(self.train_rows.table["label"].to_pylist())
        return {"gold_counts": {label: counts[label] for label in self.task.labels}}

    def output_rows(self, subcommand: str) -> pa.Table:
        """The targets without their texts, with the columns that their sources `keep`."""
        kept = [name for name in self.target_rows.table.column_names if name not in (*OUTPUT, *self.task.columns)]
        return self.target_rows.table.select([*OUTPUT, *kept])

    def metrics(self, table: pa.Table) -> dict[str, dict[str, float]]:
        """Metrics of each target, from the rows that a test has written."""
        return target_metrics(table, self.task)

    def setup(self, stage: str) -> None:
        """Encode what the stage needs."""
        if stage == "test":
            # One by one, so that what is said of each target's tokens is not lost in an average.
            names = self.target_rows.table["target"]
            tables = {name: self.target_rows.table.filter(pc.equal(names, name)) for name in self.targets}
            self.encoded["test"] = joined([self.encode(Rows(one, {}, [], {}), name) for name, one in tables.items()])
            return
        self._refuse_targets(stage)
        self.encoded["dev"] = self.encode(self.dev_rows, "dev")
        if stage == "fit":
            self.encoded["train"] = self.encode(self.train_rows, "train")
            for name, rows in {"dev": self.dev_rows, "train": self.train_rows}.items():
                log.info("%s: %s", name, class_shares(rows, self.task))
            if self.pool_rows is not None:
                self.encoded["pool"] = self.encode(self.pool_rows, "pool")

    def train_dataloader(self) -> DataLoader[Batch]:
        """This rank's micro-batches, window by window."""
        return self.window_loader(
            RowBatches(self.encoded["train"], self.tokenizer, {"label": self.labels(self.train_rows)}),
            n_gold=len(self.encoded["train"].lengths),
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """The source dev set."""
        return self.inference_loader(self.encoded["dev"], {"label": self.labels(self.dev_rows)})

    def test_dataloader(self) -> DataLoader[Batch]:
        """All targets, in one loader, without their labels."""
        return self.inference_loader(self.encoded["test"])

    def cartography_rows(self) -> dict[str, dict[str, Any]]:
        """The sets whose training dynamics are kept: name -> settings of `dynamics.store.ScoredRows`."""
        sets: dict[str, dict[str, Any]] = {}
        if self.pool_rows is not None:
            sets["pool"] = {
                "loader": self.inference_loader(self.encoded["pool"]),
                "ids": self.pool_rows.ids,
                "inputs": {"pool": self.pool_rows.reference},
            }
        if self.gold_dynamics:
            sets["gold"] = {
                "loader": self.inference_loader(self.encode(self.train_rows, "gold")),
                "ids": self.train_rows.ids,
                "reference": self.labels(self.train_rows).numpy(),
                "inputs": {"gold": self.train_rows.reference},
            }
        return {name: {**one, "labels": self.task.labels} for name, one in sets.items()}

    def window_loader(self, dataset: RowBatches, n_gold: int) -> WindowLoader:
        """Training batches of a data set whose gold rows come first."""
        lengths: np.ndarray = dataset.encoded.lengths
        if not len(lengths):
            raise InputError("data.train: no rows to train on; give gold rows, a selection, or both")
        return self.windows_of(dataset, lengths, n_gold, self.batch_size, self.seed)

    def _labelled(self, name: str, source: Source | list[Source] | None) -> Rows:
        if source is None:
            raise InputError(f"data.{name}: not given, expected a source of labelled rows, such as `path: my.jsonl`")
        rows = load_rows(source, self.task, "label")
        if not len(rows.table) and (source != [] or name == "dev"):
            raise InputError(f"data.{name} {', '.join(rows.places) or '[]'}: no rows, expected at least one")
        if any(one is not None and one.facts.get("setting") == "translate-test" for one in rows.manifests):
            raise InputError(
                f"data.{name} {', '.join(rows.places)}: translated targets (setting translate-test), whose labels may "
                "not be trained on; give gold rows or their translation"
            )
        return rows

    def _refuse_targets(self, stage: str) -> None:
        if self.targets:
            name = getattr(stage, "value", stage)  # Lightning's is an enumeration
            raise InputError(
                f"data.targets: {sorted(self.targets)} configured into {name}, where no target label may be seen; "
                'remove them, and test with "python main.py test --config test.yaml"'
            )


def class_shares(rows: Rows, task: Task) -> str:
    """How many rows each class has, for the log: a cut of a sorted file shows here."""
    counts, total = Counter(rows.table["label"].to_pylist()), rows.table.num_rows
    return ", ".join(f"{label} {counts[label]} ({100 * counts[label] / max(total, 1):.0f} %)" for label in task.labels)


def languages_of(rows: Rows) -> set[str]:
    """The languages that rows state."""
    return set(rows.table["lang"].drop_null().to_pylist())


def translated_into(rows: Rows) -> set[str]:
    """The languages that rows were translated into, by the artifacts that they come from."""
    made = [one for one in rows.manifests if one is not None and one.stage == "translate"]
    return {str(one.facts["target_language"]) for one in made}
