"""Help: a page of what people change, and how to see all."""

import pytest
from conftest import Command

from labelbridge.lightning_app.cli.help_pages import PAGES


@pytest.mark.parametrize("command", PAGES)
def test_help_is_one_page_that_says_how_to_see_all(cli: Command, command: str):
    outcome = cli(command, "--help")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert len(lines) < 60
    assert all(len(line) <= 120 for line in lines)
    assert f"python main.py {command} --help all" in outcome.out
    if command != "select":
        assert f"python main.py {command} --model.help " in outcome.out


def test_the_page_of_fit_names_what_people_change(cli: Command):
    page = cli("fit", "--help").out
    for key in ("model.model", "model.learning_rate", "data.train", "trainer.max_epochs", "out", "overwrite"):
        assert f"\n  --{key} " in page, key
    assert "Peak learning rate" in page  # from the class's docstring
    assert "--model.help StudentModule" in page


def test_the_page_shows_the_values_of_the_configurations(cli: Command):
    page = cli("fit", "--config", "teacher.yaml", "--trainer.max_epochs=7", "--help").out
    assert "[TeacherModule]" in page
    assert "Number of epochs. [7]" in page
    assert "[samples/sentiment/gold/train.jsonl]" in page
    assert "--data.selection" not in page  # not an argument of its DataModule


@pytest.mark.parametrize("command", PAGES)
def test_every_setting_of_a_page_is_described(cli: Command, command: str):
    for line in cli(command, "--help").out.splitlines():
        if line.startswith("  --"):
            assert len(line.split()) > 1 or len(line) > 33, line


def test_all_settings_of_a_trainer_command(cli: Command):
    outcome = cli("fit", "--help", "all")
    assert outcome.code == 0
    assert "--trainer.gradient_clip_val" in outcome.out


@pytest.mark.parametrize("command", ["select", "clean", "report", "export", "peek"])
def test_the_description_does_not_repeat_the_arguments(cli: Command, command: str):
    outcome = cli(command, "--help", "all")
    assert outcome.code == 0
    assert "Args:" not in outcome.out
    assert "--seed" in outcome.out or command in ("report", "export", "peek")
