"""Tasks by name."""

from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, Command

from labelbridge.lightning_app.cli.named_tasks import load, replace_named_tasks

NLI = {"name": "nli", "columns": ["premise", "hypothesis"], "labels": ["entailment", "neutral", "contradiction"]}


def test_a_name_in_a_config_stands_for_the_file():
    assert load("{task: nli, seed: 1}") == {"task": NLI, "seed": 1}
    assert load("{task: {name: mine}}") == {"task": {"name": "mine"}}
    assert load("task") == "task"


def test_a_name_on_the_command_line_stands_for_the_file():
    file = str(PROJECT / "configs/tasks/nli.yaml")
    assert replace_named_tasks(["--task", "nli", "--seed", "1"]) == ["--config", file, "--seed", "1"]
    assert replace_named_tasks(["--task=nli"]) == ["--config", file]
    written_out = ["--task", '{"name": "mine", "columns": ["text"], "labels": ["a", "b"]}']
    assert replace_named_tasks(written_out) == written_out


def test_a_users_file_is_a_task_too(cli: Command, tmp_path: Path):
    (tmp_path / "topic.yaml").write_text("task: {name: topic, columns: [text], labels: [sports, politics]}")
    for words in (["--task", "topic"], ["--config", "topic.yaml"]):
        outcome = cli("select", "--config", "select.yaml", *words, "--print_config")
        assert yaml.safe_load(outcome.out)["task"]["labels"] == ["sports", "politics"]


@pytest.mark.parametrize("words", [["--task", "nly"], ["--config", "mine.yaml"]])
def test_a_misspelt_name_is_one_line_with_the_closest(words: list[str], cli: Command, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("task: nly")
    outcome = cli("select", "--config", "select.yaml", *words)
    assert outcome.code == 2
    assert outcome.err == "error: task: no task 'nly' in configs/tasks, did you mean 'nli'?\n"


def test_a_file_without_a_task_is_refused(cli: Command, tmp_path: Path):
    (tmp_path / "topic.yaml").write_text("task: topic")
    outcome = cli("select", "--config", "select.yaml", "--task", "topic")
    assert outcome.code == 2
    assert "expected a mapping `task` with name, columns and labels" in outcome.err
    assert len(outcome.err.splitlines()) == 1
