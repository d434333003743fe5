"""Labelled rows: to train on, to choose the checkpoint by, and to test on."""

import logging
from collections import Counter
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from labelbridge.lightning_app.core.contracts import Reference
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.ranges import PositiveInt, Seed, check_ranges
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Rows, Source, load_rows
from labelbridge.lightning_app.evaluation.metrics import target_metrics
from labelbridge.lightning_app.evaluation.slices import TRANSLATED_BY, script_of
from labelbridge.lightning_app.protocols import EncodedBatch

from .base import RowsDataModule
from .batches import RowBatches, WindowLoader
from .dev_sets import check_dev_language, warn_of_training_rows
from .encoding import Encoded, joined, token_columns
from .views import Views, load_views, paired

OUTPUT = ("id", "target", "lang", "label")
# The columns that a test adds.
PREDICTED = ("tokens", "unknown_rate", "script", "prediction", "probs", "raw_probs")

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
        class_balanced: Deal every class of gold equally often, in proportion to its most frequent class, by repeating
            rows of the others: each as often as any other of its class within one, drawn anew every epoch.
        views: Translations of the training rows, or code-switched copies: folders of `translate`. Paired by id; see
            `model.consistency`.
        batch_size: Rows that a device passes through the model at once. With `trainer.accumulate_grad_batches` and
            the number of devices it gives the rows of an optimizer step, which are sorted by length and cut.
        seed: Seed of the order of rows; linked to `seed_everything`.
        **rows: As for `RowsDataModule`.
    """

    @check_ranges("data.")
    def __init__(
        self,
        train: Source | list[Source] | None = None,
        dev: Source | list[Source] | None = None,
        targets: dict[str, Source] | None = None,
        pool: Source | list[Source] | None = None,
        gold_dynamics: bool = False,
        class_balanced: bool = False,
        views: str | list[str] | None = None,
        batch_size: PositiveInt = 32,
        seed: Seed = 0,
        **rows: Any,
    ) -> None:
        super().__init__(**rows)
        self.train = train
        self.dev = dev
        self.targets = targets or {}
        self.pool = pool
        self.gold_dynamics = gold_dynamics
        self.class_balanced = class_balanced
        self.views = [views] if isinstance(views, str) else views or []
        if class_balanced and self.views:
            raise InputError(
                "data.class_balanced is true and data.views is given, expected one of the two: how often a pair is "
                "dealt would change from epoch to epoch; use model.class_weighting for the classes"
            )
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
            InputError: If its labels are a target's; see `dev_sets.check_dev_language`.
        """
        rows = self._labelled("dev", self.dev)
        check_dev_language(self.source_rows, rows)
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
        unnamed = next((name for name in self.targets if not name.strip()), None)
        if unnamed is not None:
            raise InputError(f"data.targets: a target is called {unnamed!r}, expected a name; give it one")
        found = {name: load_rows(source, self.task, "label") for name, source in self.targets.items()}
        for name, rows in found.items():
            rows.check_any(f"data.targets.{name}")
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
            _with_translator(rows).append_column("target", pa.array([name] * rows.table.num_rows, pa.string()))
            for name, rows in self.rows_by_target.items()
        ]
        places = [place for rows in self.rows_by_target.values() for place in rows.places]
        return Rows(pa.concat_tables(tables, promote_options="default"), {}, places, {})

    def inputs(self, subcommand: str) -> dict[str, Reference]:
        """See `RowsDataModule.inputs`."""
        if subcommand == "test":
            return {f"target.{name}": rows.reference for name, rows in self.rows_by_target.items()}
        self._refuse_targets(subcommand)
        named = {"gold": self.train_rows, "dev": self.dev_rows} if subcommand == "fit" else {"dev": self.dev_rows}
        if subcommand == "fit" and self.pool_rows is not None:
            named["pool"] = self.pool_rows
        if subcommand == "fit" and self.views:
            named["views"] = self.view_rows
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
            if self.class_balanced:
                identity["class_balanced"] = True
        return identity

    def training_facts(self) -> dict[str, Any]:
        """Gold rows per label, in the task's order and without synthetic rows; all zero for a model without gold."""
        counts = Counter(self.train_rows.table["label"].to_pylist())
        facts: dict[str, Any] = {"gold_counts": {label: counts[label] for label in self.task.labels}}
        return {**facts, "label_prior": {"how": "class-balanced dealing"}} if self.class_balanced else facts

    @property
    def pool_source(self) -> Source | list[Source] | None:
        """The pool."""
        return self.pool

    def test_texts(self) -> pa.Table | None:
        """All targets."""
        return self.target_rows.table

    def known_labels(self, table: pa.Table) -> list[str] | None:
        """The labels of the targets."""
        labels: list[str] = table["label"].to_pylist()
        return labels

    def output_rows(self, subcommand: str) -> pa.Table:
        """The targets without their texts, with the columns that their sources `keep`, and what slices are made of."""
        table = self.target_rows.table
        kept = [name for name in table.column_names if name not in (*OUTPUT, *self.task.columns)]
        texts = zip(*(table[name].to_pylist() for name in self.task.columns), strict=True)
        tokens = [token_columns(encoded, self.tokenizer) for encoded in self.encoded_targets.values()]
        rows = table.select([*OUTPUT, *kept])
        for name in tokens[0]:
            rows = rows.append_column(name, pa.chunked_array([columns[name] for columns in tokens]))
        return rows.append_column("script", pa.array([script_of(" ".join(row)) for row in texts], pa.string()))

    @cached_property
    def encoded_targets(self) -> dict[str, Encoded]:
        """Every target's rows as tokens, in the order of `target_rows`."""
        return {name: self.tokenize(rows.table, self.task.columns) for name, rows in self.rows_by_target.items()}

    def metrics(self, table: pa.Table) -> dict[str, dict[str, float]]:
        """Metrics of each target, from the rows that a test has written."""
        return target_metrics(table, self.task)

    def setup(self, stage: str) -> None:
        """Encode what the stage needs."""
        if stage == "test":
            # One by one, so that what is said of each target's tokens is not lost in an average.
            for name, encoded in self.encoded_targets.items():
                self.report_tokens(encoded, name)
            self.encoded["test"] = joined(list(self.encoded_targets.values()))
            self.free_tokenizer()
            return
        self._refuse_targets(stage)
        self.encoded["dev"] = self.encode(self.dev_rows, "dev")
        if stage == "fit":
            self._warn_of_training_rows()
            self.encoded["train"] = self.encode(self.train_rows, "train")
            for name, rows in {"dev": self.dev_rows, "train": self.train_rows}.items():
                log.info("%s: %s", name, class_shares(rows, self.task))
            if self.pool_rows is not None:
                self.encoded["pool"] = self.encode(self.pool_rows, "pool")

    @cached_property
    def view_rows(self) -> Rows:
        """Translations of the training rows."""
        return load_views(self.views, self.task)

    def train_views(self, rows: pa.Table) -> Views | None:
        """The encoded views of the training rows, in their order; None where none are given."""
        if not self.views:
            return None
        order, starts = paired(self.view_rows.table, rows, self.task, ", ".join(self.views))
        log.info("views: %d of %d rows have %d", int((np.diff(starts) > 0).sum()), rows.num_rows, len(order))
        return Views(self.encode_texts(self.view_rows.table.take(order), "views", self.task.columns), starts)

    def training_tokens(self) -> np.ndarray | None:
        """All tokens that a training batch can hold, each once; None where views are given, which are encoded later."""
        if self.views or not len(self.encoded["train"].lengths):  # no rows are refused when batches are made
            return None
        return np.union1d(self.encoded["train"].features["input_ids"], [self.padding.pad_token_id])

    def train_dataloader(self) -> DataLoader[EncodedBatch]:
        """This rank's micro-batches, window by window."""
        label = self.labels(self.train_rows)
        return self.window_loader(
            RowBatches(
                self.encoded["train"],
                self.padding,
                {"label": label},
                self.gold_sizes(label),
                self.train_views(self.train_rows.table),
            ),
            label,
        )

    def gold_sizes(self, label: Tensor) -> dict[str, int | Tensor]:
        """How many gold rows an epoch deals (`n_dealt`), and of each class (`gold_counts`).

        Where every class is dealt equally often there are no shares for a loss to correct, so none are given.
        """
        counts = torch.bincount(label, minlength=len(self.task.labels))
        if self.class_balanced:
            return {"n_dealt": int(counts.max() * (counts > 0).sum())}
        return {"n_dealt": len(label), "gold_counts": counts}

    def val_dataloader(self) -> DataLoader[EncodedBatch]:
        """The source dev set."""
        return self.inference_loader(self.encoded["dev"], {"label": self.labels(self.dev_rows)})

    def test_dataloader(self) -> DataLoader[EncodedBatch]:
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

    def window_loader(self, dataset: RowBatches, gold_label: Tensor) -> WindowLoader:
        """Training batches of a data set whose gold rows come first."""
        lengths: np.ndarray = dataset.encoded.lengths
        if not len(lengths):
            raise InputError("data.train: no rows to train on; give gold rows, a selection, or both")
        balance = gold_label.numpy() if self.class_balanced else None
        return self.windows_of(dataset, lengths, len(gold_label), self.batch_size, self.seed, balance)

    def _labelled(self, name: str, source: Source | list[Source] | None) -> Rows:
        if source is None:
            raise InputError(f"data.{name}: not given, expected a source of labelled rows, such as `path: my.jsonl`")
        rows = load_rows(source, self.task, "label")
        if source != [] or name == "dev":
            rows.check_any(f"data.{name}")
        if any(one is not None and one.facts.get("setting") == "translate-test" for one in rows.manifests):
            raise InputError(
                f"data.{name} {', '.join(rows.places)}: translated targets (setting translate-test), whose labels may "
                "not be trained on; give gold rows or their translation"
            )
        return rows

    def trained_tables(self) -> list[pa.Table]:
        """All rows that are trained on."""
        return [self.train_rows.table]

    def _warn_of_training_rows(self) -> None:
        sources = self.dev if isinstance(self.dev, list) else [self.dev] if self.dev is not None else []
        warn_of_training_rows(self.trained_tables(), self.dev_rows, sources, self.task)

    def _refuse_targets(self, stage: str) -> None:
        if self.targets:
            name = getattr(stage, "value", stage)  # Lightning's is an enumeration
            raise InputError(
                f"data.targets: {sorted(self.targets)} configured into {name}, where no target label may be seen; "
                'remove them, and test with "python main.py test --config test.yaml"'
            )


def _with_translator(rows: Rows) -> pa.Table:
    """The rows, with `translated_by: machine` if `translate` wrote them; what a source says of its own rows holds."""
    is_translation = any(one is not None and one.stage == "translate" for one in rows.manifests)
    if not is_translation or TRANSLATED_BY in rows.table.column_names:
        return rows.table
    return rows.table.append_column(TRANSLATED_BY, pa.array(["machine"] * rows.table.num_rows, pa.string()))


def class_shares(rows: Rows, task: Task) -> str:
    """How many rows each class has, for the log: a cut of a sorted file shows here."""
    counts, total = Counter(rows.table["label"].to_pylist()), rows.table.num_rows
    return ", ".join(f"{label} {counts[label]} ({100 * counts[label] / max(total, 1):.0f} %)" for label in task.labels)
