"""What the tables of malformed inputs share: commands over a small world of artifacts, and what a refusal looks like."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import QUIET, Outcome

from labelbridge.lightning_app.core import artifacts

OUT = "o"
SELECT = (
    "select", "--config=select.yaml", "--pool.path=data/pool.jsonl", "--pseudolabels=pseudolabel", "--quota=3",
    f"--out={OUT}",
)  # fmt: skip
BY_PROMPT = (*SELECT, "--strategy=random", "--class_from=prompt", "--pseudolabels=null")
BY_DYNAMICS = (*SELECT, "--strategy=easy", "--dynamics=teacher/dynamics")
BY_EMBEDDINGS = (*SELECT, "--strategy=diverse", '--options={"clusters": 2}', "--embeddings=embed")
NEAR_TARGET = (*SELECT, "--strategy=near_target", "--embeddings=embed", "--target_embeddings=wanted")
REPORT = ("report", "--config=report.yaml", "--runs=[test]", f"--out={OUT}")
EXPORT = ("export", "--model=teacher/model", "--test=test", f"--out={OUT}")
CLEAN = ("clean", "--config=clean.yaml", "--raw.path=raw", "--exclude=[]", "--language=null", f"--out={OUT}")
PSEUDOLABEL = (
    "predict", "--config=pseudolabel.yaml", "--model.model=teacher/model", "--data.pool.path=data/pool.jsonl",
    f"--out={OUT}", *QUIET,
)  # fmt: skip
TEST = (
    "test", "--config=test.yaml", "--model.model=teacher/model", '--data.targets={"en": {"path": "data/target.jsonl"}}',
    f"--out={OUT}", *QUIET,
)  # fmt: skip
TEACHER = (
    "fit", "--config=teacher.yaml", "--model.model=teacher/model", "--data.train.path=data/gold.jsonl",
    "--data.dev.path=data/dev.jsonl", "--trainer.max_epochs=1", f"--out={OUT}", *QUIET,
)  # fmt: skip
STUDENT = (
    "fit", "--config=student.yaml", "--model.model=teacher/model", "--data.train.path=data/gold.jsonl",
    "--data.dev.path=data/dev.jsonl", "--data.selection=select", "--trainer.max_epochs=1", f"--out={OUT}", *QUIET,
)  # fmt: skip

# What a command may leave in a folder that it then refuses to fill.
_LEFT = (".lock", "_config.yaml", "lightning_logs", "_rejected")
# An error line says what was expected, or what to do.
_REMEDY = re.compile(r"; |expected|did you mean|known are|the keys are")

Harm = Callable[[Path], object]


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder and what is in it."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file() and not file.is_symlink()
    }


def assert_line(line: str, said: str = "") -> None:
    """One line that names what is wrong and what to do."""
    assert "\n" not in line.strip(), line
    assert len(line) < 900, line
    assert _REMEDY.search(line), line
    assert re.search(said, line), f"{said!r} not in {line!r}"


def assert_refused(outcome: Outcome, said: str = "") -> None:
    """Status 2, one error line on stderr, and no result on stdout."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err, outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, outcome.err
    assert not outcome.out or "Trainable params" in outcome.out, outcome.out  # Lightning's summary of the model
    assert_line(lines[0], said)


def assert_untouched(folder: Path, before: dict[str, str]) -> None:
    """Every file is as it was, and nothing half-written was left."""
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before
    left = [name for name in set(after) - set(before) if not set(Path(name).parts) & set(_LEFT)]
    assert not left, left


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / artifacts.MANIFEST).read_text())
    return found


def with_manifest(name: str, **fields: Any) -> Harm:
    """Change fields of an artifact's manifest; `facts__x` is a field of its facts, and `...` removes one."""

    def harm(folder: Path) -> None:
        manifest = manifest_of(folder / name)
        for key, value in fields.items():
            *above, last = key.split("__")
            place = manifest
            for part in above:
                place = place[part]
            if value is ...:
                place.pop(last, None)
            else:
                place[last] = value
        (folder / name / artifacts.MANIFEST).write_text(json.dumps(manifest))

    return harm


def with_text(name: str, text: str | bytes) -> Harm:
    """Write a file."""

    def harm(folder: Path) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))

    return harm


def with_json(name: str, **fields: Any) -> Harm:
    """Change fields of a JSON file."""

    def harm(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        content.update({key: value for key, value in fields.items() if value is not ...})
        for key, value in fields.items():
            if value is ...:
                content.pop(key, None)
        (folder / name).write_text(json.dumps(content))

    return harm


def with_rows(name: str, change: Callable[[pa.Table], pa.Table]) -> Harm:
    """Write an artifact again with other rows, as a complete one whatever they are."""

    def harm(folder: Path) -> None:
        path = folder / name
        manifest = artifacts.read_manifest(path)
        table = change(pq.read_table(path / "part-00000.parquet"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(artifacts, "check_vectors", lambda *_: None)
            patch.setattr(artifacts, "check_no_duplicates", lambda *_: None)
            artifacts.write(
                path, table, stage=manifest.stage, inputs=manifest.inputs, lineage=manifest.lineage,
                facts=manifest.facts, config=manifest.config, command=manifest.command,
            )  # fmt: skip

    return harm


def with_column(name: str, column: str, values: Callable[[list[Any]], Any]) -> Harm:
    """Put other values into a column of an artifact, or take it out (None)."""

    def change(table: pa.Table) -> pa.Table:
        new = values(table[column].to_pylist())
        if new is None:
            return table.drop_columns([column])
        array = new if isinstance(new, pa.Array) else pa.array(new)
        return table.set_column(table.column_names.index(column), column, array)

    return with_rows(name, change)


def all_of(*harms: Harm) -> Harm:
    def harm(folder: Path) -> None:
        for one in harms:
            one(folder)

    return harm


def nothing(_folder: Path) -> None:
    """The words themselves are malformed."""
