"""Views of training rows: their translations or code-switched copies, paired by id."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError, shorten
from labelbridge.lightning_app.core.paths import find
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Rows, Source, load_texts

from .encoding import Encoded

REMEDY = 'make it with "python main.py predict --config translate.yaml"'


@dataclass(frozen=True)
class Views:
    """Encoded views, and which row each belongs to.

    Args:
        encoded: Token ids of the views.
        starts: Views of row r are those from starts[r] up to starts[r + 1]; shape (N + 1,).
    """

    encoded: Encoded
    starts: np.ndarray

    @property
    def count(self) -> int:
        """M, the number of pairs."""
        return int(self.starts[-1])

    def of_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the views of rows, and for each view the position of its row in `rows`; int64 each."""
        counts = self.starts[rows + 1] - self.starts[rows]
        views = [np.arange(self.starts[row], self.starts[row + 1]) for row in rows]
        empty = np.empty(0, dtype=np.int64)
        return np.concatenate([empty, *views]), np.repeat(np.arange(len(rows)), counts)


def load_views(paths: list[str], task: Task) -> Rows:
    """Read translations of training rows.

    Raises:
        InputError: If one is no complete artifact of `translate`, out of date, or a translation of targets.
    """
    for path in paths:
        folder = find(path)
        if folder is None or not folder.is_dir():
            raise InputError(f"data.views {path}: no such artifact, expected a folder that translate wrote; {REMEDY}")
        manifest = artifacts.read_manifest(folder, "translate")
        if manifest.facts.get("setting") == "translate-test":
            raise InputError(f"data.views {path}: translated targets, expected translations of training rows")
        artifacts.check_fresh(folder, manifest)
    kept = ["source_lang", *(f"source_{name}" for name in task.columns)]
    sources = [Source(path=path, keep=kept, id_prefix=f"{number}:") for number, path in enumerate(paths)]
    return load_texts(sources, task.columns)


def paired(views: pa.Table, rows: pa.Table, task: Task, place: str) -> tuple[np.ndarray, np.ndarray]:
    """Which views belong to the rows, in the order of the rows.

    Args:
        views: As from `load_views`: the id of a row, behind the number of the artifact.
        rows: Training rows: `id`, text columns, `lang`.
        task: The task.
        place: What an error calls the views.

    Returns:
        Numbers of views (M,), and starts (N + 1,) as for `Views`.

    Raises:
        InputError: If no view belongs to a row, or one was made from another text than its row has.
    """
    by_id: dict[str, list[int]] = {}
    for number, one in enumerate(views["id"].to_pylist()):
        by_id.setdefault(one.partition(":")[2], []).append(number)
    found = [by_id.get(row, []) for row in rows["id"].to_pylist()]
    order = np.array([number for numbers in found for number in numbers], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum([len(numbers) for numbers in found], dtype=np.int64)])
    if not len(order):
        raise InputError(
            f"data.views {place}: no id of a training row among {views.num_rows} rows, expected translations of them; "
            f"{REMEDY} from the rows of data.train or data.selection"
        )
    row_of = np.repeat(np.arange(len(found)), np.diff(starts))
    languages = rows["lang"].take(row_of).to_pylist()
    source_languages = views["source_lang"].take(order).to_pylist()
    for name in task.columns:
        texts, sources = rows[name].take(row_of).to_pylist(), views[f"source_{name}"].take(order).to_pylist()
        for number, (text, source) in enumerate(zip(texts, sources, strict=True)):
            # A translation of a translation carries the text between as its source.
            if languages[number] in (None, source_languages[number]) and text != source:
                row = rows["id"][int(row_of[number])]
                raise InputError(
                    f"data.views {place} row '{row}': translated from {shorten(source)}, but the training row is "
                    f"{shorten(text)}; {REMEDY} from these rows"
                )
    return order, starts
