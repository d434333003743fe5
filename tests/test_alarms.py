"""What a run says when a classifier has collapsed, and what each command names as the next."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import warm
from conftest import LABELS, QUIET, Outcome, Stages, labelled, save_classifier, write_jsonl
from safetensors.torch import load_file, save_file

from labelbridge.lightning_app.core import artifacts

ONE_CLASS = "all {} rows were predicted 'positive'; the model has collapsed to one class"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO")
    return caplog


@pytest.fixture
def collapsed(stages: Stages, tiny_bert: Path) -> Stages:
    """The stages with a classifier that predicts one class whatever the text, and does not learn another."""
    model = save_classifier(Path("one-class"), tiny_bert, LABELS)
    weights = load_file(model / "model.safetensors")
    weights["classifier.bias"] += torch.tensor([0.0, 0.0, 1000.0])
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    stages.fit_words = (*stages.fit_words, f"--model.model={model}", "--model.learning_rate=0")
    return stages


def next_words(log: pytest.LogCaptureFixture) -> list[str]:
    """The words of the last line's command, behind `python main.py`."""
    line = log.messages[-1]
    assert line.startswith("next: python main.py "), line
    return shlex.split(line.removeprefix("next: python main.py "))


@pytest.mark.slow
def test_a_collapsed_teacher_is_warned_of_at_every_stage(collapsed: Stages, log: pytest.LogCaptureFixture):
    assert collapsed.teacher().code == 0
    assert log.text.count(f"dev: {ONE_CLASS.format(15)}: lower model.learning_rate or train longer") == 2
    assert collapsed.pseudolabel().code == 0
    assert f"pool: {ONE_CLASS.format(50)}" in log.text
    assert collapsed.test("--model.model=teacher/model").code == 0
    assert f"en: {ONE_CLASS.format(23)}" in log.text
    outcome = collapsed.select("--quota=6")
    assert outcome.code == 2
    assert re.fullmatch(
        r"error: pseudolabel: only class 'positive' would have rows in the selection, but the quota asks for 3 classes "
        r"\(candidates: negative 0, neutral 0, positive 50\); train a better teacher, .*--allow_empty true\n",
        outcome.err,
    )
    assert not Path("select").exists()


@pytest.mark.slow
def test_a_teacher_that_predicts_every_class_is_not_warned_of(loop: Stages, log: pytest.LogCaptureFixture):
    assert loop.teacher("--overwrite=true").code == 0
    assert loop.pseudolabel("--overwrite=true").code == 0
    assert loop.test("--overwrite=true").code == 0
    assert "pool: all" not in log.text
    assert "en: all" not in log.text


def test_the_sanity_check_says_nothing(collapsed: Stages, log: pytest.LogCaptureFixture):
    assert collapsed.teacher("--trainer.num_sanity_val_steps=-1").code == 0
    assert log.text.count("dev: all") == 2  # one line in each of two epochs


@pytest.mark.slow
def test_two_processes_count_the_dev_set_together(collapsed: Stages):
    words = ("fit", "--config", "teacher.yaml", "--out=teacher", *collapsed.fit_words)
    assert warm.run((*words, "--trainer.devices=2", "--trainer.strategy=ddp_fork"), Path.cwd()) == 0
    assert warm.said(Path.cwd()).count(f"dev: {ONE_CLASS.format(15)}") == 2  # one line in each of two epochs


def test_pseudolabels_end_with_a_table_of_classes(loop: Stages, log: pytest.LogCaptureFixture):
    read = artifacts.read(Path("pseudolabel"))
    rows = read.table.to_pylist()
    classes = read.manifest.facts["classes"]
    assert list(classes) == LABELS
    for number, label in enumerate(LABELS):
        own = [row["probs"][number] for row in rows if row["prediction"] == label]
        assert classes[label]["rows"] == len(own)
        assert classes[label].get("mean_probability") == (pytest.approx(sum(own) / len(own)) if own else None)
    assert loop.pseudolabel().code == 0  # complete already
    assert log.messages[-5].split() == ["class", "rows", "mean", "probability"]
    assert [line.split()[:2] for line in log.messages[-4:-1]] == [
        [label, str(classes[label]["rows"])] for label in LABELS
    ]  # fmt: skip


@pytest.mark.slow
def test_the_next_commands_lead_through_the_loop(stages: Stages, log: pytest.LogCaptureFixture):
    """Each command is the one that the last one printed; only the small sets and the tiny encoder are added."""

    def go(*words: object) -> Outcome:
        outcome = stages.cli(*words)
        assert outcome.code == 0, outcome.err
        return outcome

    pool = f"--data.pool.path={stages.files.pool}"
    go("fit", "--config", "teacher.yaml", "--out=runs/x/teacher", *stages.fit_words, pool)
    assert next_words(log)[:3] == ["predict", "--config", "pseudolabel.yaml"]
    go(*next_words(log), *QUIET)
    assert next_words(log)[:3] == ["select", "--config", "select.yaml"]
    go(*next_words(log))
    assert next_words(log)[:3] == ["fit", "--config", "student.yaml"]
    go(*next_words(log), *stages.fit_words)
    assert next_words(log)[:3] == ["test", "--config", "test.yaml"]
    go(*next_words(log), f'--data.targets={{"en": {{"path": "{stages.files.target}"}}}}', *QUIET)
    assert next_words(log) == ["report", "--config", "report.yaml", "--runs", "runs/x/test", "--out", "runs/x/report"]
    go(*next_words(log))
    assert log.messages[-1].startswith("next: open runs/x/report/report.")
    assert json.loads(Path("runs/x/report/report.json").read_text())["cells"]


@pytest.mark.slow
def test_a_complete_run_names_the_next_command_too(loop: Stages, log: pytest.LogCaptureFixture):
    for stage, command in (
        (loop.teacher, "predict"), (loop.pseudolabel, "select"), (loop.select, "fit"), (loop.student, "test"),
        (loop.test, "report"),
    ):  # fmt: skip
        assert stage().code == 0
        assert next_words(log)[0] == command


@pytest.mark.slow
def test_another_task_is_carried_from_command_to_command(stages: Stages, tiny_classifier: Path, log):
    task = '--task={"name": "mine", "columns": ["text"], "labels": ["negative", "neutral", "positive"]}'
    assert stages.pseudolabel(f"--model.model={tiny_classifier}", task).code == 0
    assert stages.cli(*next_words(log), "--quota=6").code == 0
    assert artifacts.read(Path("select")).table.num_rows
    assert {"--task", "GOLD", "DEV"} <= set(next_words(log))


def test_a_cleaned_pool_goes_to_the_teacher(stages: Stages, log: pytest.LogCaptureFixture):
    write_jsonl(Path("raw.jsonl"), labelled(30, 5, "prompt_label"))
    words = ("--raw.path=raw.jsonl", "--language=null", "--out=runs/pool")
    assert stages.cli("clean", "--config", "clean.yaml", *words).code == 0
    assert "--data.pool" in next_words(log)
    assert next_words(log)[next_words(log).index("--data.pool") + 1] == "runs/pool"


@pytest.mark.slow
def test_translated_gold_and_a_translated_pool_go_different_ways(stages: Stages, log: pytest.LogCaptureFixture):
    words = ("predict", "--config", "translate.yaml", *QUIET)
    assert stages.cli(*words, f"--data.rows.path={stages.files.gold}", "--out=hi/gold", "--data.gates=null").code == 0
    assert next_words(log)[:3] == ["fit", "--config", "teacher.yaml"]
    pool = (f"--data.rows.path={stages.files.pool}", "--data.label_column=prompt_label", "--data.gates=null")
    assert stages.cli(*words, *pool, "--out=hi/pool").code == 0
    assert next_words(log)[:5] == ["predict", "--config", "pseudolabel.yaml", "--data.pool", "hi/pool"]
