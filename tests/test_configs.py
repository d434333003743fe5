"""Every config file says which command uses it, and that command accepts it."""

import shlex
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, Command

CONFIGS = sorted(path.relative_to(PROJECT / "configs") for path in (PROJECT / "configs").rglob("*.yaml"))
GRIDS = sorted((PROJECT / "workflow").glob("*.yaml"))


def header(file: Path) -> list[str]:
    """The comment lines at the top of a file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]


def commands(file: Path) -> list[list[str]]:
    """The words after `main.py` of every command in a file's header."""
    return [shlex.split(line.split("python main.py ")[1]) for line in header(file) if "python main.py " in line]


def names(config: Path) -> set[str]:
    """How a command line names a config: a task and a prompt file also go without folder and suffix."""
    return {config.as_posix(), config.stem} if config.parent.name in ("tasks", "prompts") else {config.as_posix()}


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_header_names_a_command_that_uses_the_file(config: Path):
    assert any(names(config) & set(words) for words in commands(PROJECT / "configs" / config))


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_commands_of_a_header_accept_the_file(config: Path, cli: Command):
    for words in commands(PROJECT / "configs" / config):
        outcome = cli(*words, "--print_config")
        assert outcome.code == 0, f"{words}: {outcome.err}"
        assert isinstance(yaml.safe_load(outcome.out), dict)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda path: path.name)
def test_a_grid_names_its_command(grid: Path):
    command = "make demo" if grid.name == "demo.yaml" else f"--configfile workflow/{grid.name} --cores"
    assert any(line.startswith("#   ") and command in line for line in header(grid))


def test_a_task_and_a_data_set_are_written_once():
    """Everywhere else they are named."""
    texts = {path: path.read_text(encoding="utf-8") for path in [*map((PROJECT / "configs").joinpath, CONFIGS), *GRIDS]}
    for definition, place in {
        "labels: [negative, neutral, positive]": "sentiment.yaml",
        "labels: [entailment, neutral, contradiction]": "nli.yaml",
        "hub:SetFit/sst5": "sst5.yaml",
        "hub:stanfordnlp/snli": "snli.yaml",
    }.items():
        holders = [path.name for path, text in texts.items() for _ in range(text.count(definition))]
        assert holders == [place]
