"""Target text that was looked at stays out of the test sets; text that cannot be read again is named."""

import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.ancestors import _warn_once
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.unseen import check_unseen
from labelbridge.lightning_app.models.locate import CARD_FACTS

TASK = Task("sentiment", ["text"], ["negative", "positive"])
TARGETS = pa.table({"id": ["a"], "target": ["hi"], "text": ["Seen  before"]})


@pytest.fixture
def model(tmp_path: Path, tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A student of a selection from unlabelled text, as self-training makes one."""
    monkeypatch.chdir(tmp_path)
    _warn_once.cache_clear()

    def write(name: str, stage: str, read: str | None, **facts: Any) -> None:
        inputs = {} if read is None else {read: artifacts.reference(read, artifacts.read_manifest(Path(read)))}
        table = pa.table({"id": ["t"], "text": ["seen before"]})
        artifacts.write(Path(name), table, stage=stage, facts=facts, inputs=inputs)

    write("pseudolabels", "pseudolabel", None)
    write("selection", "select", "pseudolabels", transductive="looked at unlabelled target text", prompt_labels=False)
    write("run", "student", "selection")
    shutil.copytree(tiny_classifier, "run/model")
    Path("run/model", CARD_FACTS).write_text("{}")
    return "run/model"


def test_text_that_was_looked_at_is_refused(model: str):
    with pytest.raises(InputError, match="data.targets.hi row 'a': its text .* is among pseudolabels, which selection"):
        check_unseen(model, TARGETS, TASK)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda: shutil.rmtree("pseudolabels"), "looked at pseudolabels, .* not compared with: it is no longer there"),
        (lambda: Path("pseudolabels/part-00000.parquet").unlink(), "not compared with: pseudolabels: incomplete"),
        (lambda: Path("selection/_manifest.json").write_text("{"), "selection: what it descends from is not known: .*not JSON"),
    ],
    ids=["gone", "incomplete", "a torn manifest"],
)  # fmt: skip
def test_what_cannot_be_compared_is_named(model: str, harm: Any, said: str, caplog: pytest.LogCaptureFixture):
    harm()
    check_unseen(model, TARGETS, TASK)
    assert len(caplog.messages) == 1
    assert re.search(said, caplog.messages[0])
