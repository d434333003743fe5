"""What was made from something that has changed since is refused, with the commands that rebuild it."""

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import Outcome, Stages, labelled

from labelbridge.lightning_app.core import artifacts

pytestmark = pytest.mark.slow


def refused(outcome: Outcome, *patterns: str) -> None:
    assert outcome.code == 2
    for pattern in patterns:
        assert re.search(pattern, outcome.err), outcome.err


def retrain(loop: Stages) -> None:
    assert loop.teacher("--seed_everything=1", "--overwrite=true").code == 0


def test_a_retrained_teacher_makes_everything_below_it_stale(loop: Stages):
    retrain(loop)
    predict, select, fit = "main.py predict .*pseudolabel.yaml", "main.py select ", "main.py fit .*student.yaml"
    changed = "out of date, teacher teacher/model has been made anew since; rebuild with"
    refused(loop.select("--overwrite=true"), f"pseudolabel: {changed} .*{predict}")
    refused(loop.student("--overwrite=true"), f"select: {changed} .*{predict}.*, then .*{select}")
    refused(loop.test("--overwrite=true"), f"student: {changed} .*{predict}.*, then .*{select}.*, then .*{fit}")
    refused(loop.report(), f"test: {changed} .*{fit}.*, then .*main.py test")


def test_rebuilding_in_the_order_named_makes_all_fresh_again(loop: Stages):
    retrain(loop)
    for stage in (loop.pseudolabel, loop.select, loop.student, loop.test, loop.report):
        outcome = stage("--overwrite=true")
        assert outcome.code == 0, outcome.err


def test_the_same_thing_made_again_is_not_a_change(loop: Stages):
    assert loop.teacher("--overwrite=true").code == 0
    assert loop.student("--overwrite=true").code == 0


def test_inputs_that_were_moved_away_are_taken_on_trust(loop: Stages):
    """A selection can be handed to somebody who has neither pool nor teacher."""
    for folder in ("teacher", "pseudolabel"):
        shutil.rmtree(folder)
    loop.files.pool.unlink()
    assert loop.student("--overwrite=true").code == 0


def test_a_rebuilt_pool_makes_all_that_was_made_from_it_stale(stages: Stages, tiny_classifier: Path):
    """Pseudolabels and dynamics both descend from it: one error names the commands that rebuild either."""

    def pool(*words: str) -> Outcome:
        clean = ("--raw.path=raw", "--exclude=null", "--language=null", "--near_duplicates=null", "--out=pool")
        return stages.cli("clean", "--config", "clean.yaml", *clean, *words)

    raw = [{**row, "text": f"{row['text']} {number}"} for number, row in enumerate(labelled(30, 3, "prompt_label"))]
    artifacts.write(Path("raw"), pa.Table.from_pylist(raw), stage="generate")
    more = ("--pool.path=pool", "--class_from=prompt", "--strategy=easy", "--dynamics=teacher/dynamics")
    for outcome in (
        pool(), stages.teacher("--data.pool.path=pool"), stages.pseudolabel("--data.pool.path=pool"),
        stages.select(*more), stages.student(),
    ):  # fmt: skip
        assert outcome.code == 0, outcome.err
    assert pool("--size=20", "--overwrite=true").code == 0
    changed = "out of date, pool pool has been made anew since; rebuild with"
    predict, select, fit = "main.py predict .*pseudolabel.yaml", "main.py select ", "main.py fit .*teacher.yaml"
    refused(stages.select(*more, "--overwrite=true"), f"pseudolabel: {changed} .*{fit}.*, then .*{predict}")
    refused(stages.student("--overwrite=true"), f"select: {changed} .*{fit}.*, then .*{predict}.*, then .*{select}")


def test_one_of_several_sources_that_was_made_anew_is_found(stages: Stages, tiny_classifier: Path):
    """The pool is a union of two artifacts and a file; the second artifact changes."""
    for name, seed in (("first", 3), ("second", 4)):
        rows = [{**row, "id": f"{name}/{row['id']}"} for row in labelled(12, seed, "prompt_label")]
        artifacts.write(Path(name), pa.Table.from_pylist(rows), stage="clean")
    pool = f'[{{"path": "first"}}, {{"path": "{stages.files.pool}"}}, {{"path": "second"}}]'
    assert stages.pseudolabel(f"--model.model={tiny_classifier}", f"--data.pool={pool}").code == 0
    assert stages.select(f"--pool={pool}", "--out=before").code == 0
    shorter = artifacts.read(Path("second")).table[:9]
    shutil.rmtree("second")
    artifacts.write(Path("second"), shorter, stage="clean")
    refused(stages.select(f"--pool={pool}", "--out=after"), "pseudolabel: out of date, pool second has been made anew")
    refused(stages.student("--data.selection=before"), "before: out of date, pool second has been made anew")
