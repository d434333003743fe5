"""Every code block of the documentation works: Python and recipes are executed, YAML and commands are parsed."""

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import layout
import pytest
import yaml
from code_blocks import ALL, Block, apply_diff, of_language
from conftest import PROJECT, QUIET, Command, Stages
from test_installed import copy_of_the_checkout

from labelbridge.lightning_app import stages
from labelbridge.lightning_app.stages import FUNCTIONS, TRAINER_COMMANDS

COMMANDS = [(block, words) for block in of_language("bash") for words in block.commands()]
# By `python main.py`, or by what starts several processes of it.
OURS = [(block, words[words.index("main.py") + 1 :]) for block, words in COMMANDS if "main.py" in words]


def named(cases: list[tuple[Block, list[str]]]) -> list[object]:
    return [pytest.param(block, words, id=f"{block}-{' '.join(words[:4])}") for block, words in cases]


def test_blocks_have_a_language_that_is_checked_here():
    assert {block.language for block in ALL} <= {"python", "bash", "yaml", "diff", "bibtex", ""}
    assert len(OURS) > 60


@pytest.mark.parametrize("block", of_language("python"), ids=str)
def test_python_compiles(block: Block):
    ast.parse(block.text)


@pytest.mark.parametrize("block", of_language("yaml"), ids=str)
def test_yaml_is_a_mapping(block: Block):
    assert isinstance(yaml.safe_load(block.text), dict)


def test_blocks_without_a_language_hold_no_commands():
    assert not [
        str(block) for block in ALL if not block.language and re.search(r"^(python|pip|make) ", block.text, re.M)
    ]


def write_files_of(page: str) -> None:
    """The files that a page has its reader write."""
    for block in ALL:
        if block.page == page and block.file is not None and block.language == "yaml":
            Path(block.file).write_text(block.text)


def check_parses(cli: Command, block: Block, words: list[str]) -> None:
    write_files_of(block.page)
    outcome = cli(*words, *([] if words[0] in ("peek", "export") else ["--print_config"]))
    if words[0] in ("peek", "export"):  # they have no configuration to print: the artifact is what is missing
        assert re.search(
            r"no such artifact|expected a model folder|no such model|HF_HUB_OFFLINE is set", outcome.err
        ), outcome.err
    else:
        assert outcome.code == 0, outcome.err
        assert isinstance(yaml.safe_load(outcome.out), dict)


PARSED = [case for case in OURS if case[0].page != "docs/extend.md"]  # those are executed
KNOWN = [case for case in PARSED if case[1][0] in FUNCTIONS]
TRAINER = [case for case in PARSED if case[1][0] in TRAINER_COMMANDS]


@pytest.mark.parametrize(("block", "words"), named(KNOWN))
def test_commands_without_a_trainer_parse(block: Block, words: list[str], cli: Command):
    check_parses(cli, block, words)


@pytest.mark.slow
@pytest.mark.parametrize(("block", "words"), named(TRAINER))
def test_commands_with_a_trainer_parse(block: Block, words: list[str], cli: Command):
    check_parses(cli, block, words)


def test_every_command_of_ours_is_checked():
    others = [words for _, words in OURS if words[0] not in (*FUNCTIONS, *TRAINER_COMMANDS)]
    assert others == [["lengths", *others[0][1:]]], "only the stage that docs/extend.md adds"


def test_other_commands_name_what_is_there():
    """Make targets, extras, workflow files and modules exist."""
    extras = (PROJECT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    for block, words in COMMANDS:
        place = f"{block}: {' '.join(words)}"
        if words[0] == "make":
            assert words[1].split("=")[0] in (*targets, "PYTHON"), place
        if words[0] == "snakemake":
            for option in ("-s", "--configfile"):
                assert (PROJECT / words[words.index(option) + 1]).is_file(), place
        if words[:2] == ["python", "-m"]:
            assert find_spec(words[2]) is not None, place
        for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)) if "pip" in words else []:
            assert all(f"\n{name} = [" in extras for name in extra.split(",")), place


@pytest.mark.slow
def test_the_ten_commands_of_the_quickstart_run_one_after_the_other(cli: Command, tiny_xlmr: Path):
    """With a tiny encoder in the place of the bundled one, which may give every row one class."""
    commands = [words for block, words in OURS if str(block).startswith("docs/quickstart.md")]
    assert len(commands) == 10
    for words in commands:
        fit = [f"--model.model={tiny_xlmr}"] if words[0] == "fit" else []
        trainer = list(QUIET) if words[0] in TRAINER_COMMANDS else []
        accepted = ["--allow_empty=true"] if words[0] == "select" else []
        outcome = cli(*words, *fit, *trainer, *accepted)
        assert outcome.code == 0, (words, outcome.err)
    named = re.findall(r"`(runs/[\w/-]+)`", (PROJECT / "docs/quickstart.md").read_text(encoding="utf-8"))
    assert len(named) > 6
    assert all(Path(path).is_dir() for path in named)
    assert Path("runs/report/report.html").is_file()
    assert Path("runs/teacher/data_map.png").is_file()


@pytest.mark.slow
def test_the_page_of_the_python_interface_runs(cli: Command, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch):
    """From top to bottom, with a tiny encoder in the place of the bundled one."""
    from lightning import Trainer

    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    monkeypatch.setattr("lightning.Trainer", lambda **settings: Trainer(**quiet, **settings))
    scope: dict[str, object] = {}
    for block in of_language("python"):
        if block.page == "docs/python.md":
            source = block.text.replace('"bundled"', repr(str(tiny_bert)))
            exec(compile(source, str(block), "exec"), scope)
    assert Path("runs/mine/model/model.safetensors").is_file()
    assert Path("runs/least-certain/_manifest.json").is_file()


@pytest.mark.slow
def test_the_whole_example_of_the_callback_runs(cli: Command):
    (block,) = [one for one in of_language("python") if one.page == "docs/cartography.md" and "class Mine" in one.text]
    exec(
        compile(
            block.text.replace("max_epochs=3", "max_epochs=3, accelerator='cpu', logger=False"), str(block), "exec"
        ),
        {},
    )
    assert Path("runs/mine/data_map-train.png").is_file()
    assert Path("runs/mine/dynamics-train/_manifest.json").is_file()


def test_the_example_of_reading_an_artifact_runs(loop: Stages):
    Path("runs").mkdir()
    Path("select").rename("runs/select")
    (block,) = [one for one in of_language("python") if one.page == "docs/artifacts.md"]
    exec(compile(block.text, str(block), "exec"), {})


def test_contributing_lists_every_file_with_its_line():
    page = layout.PAGE.read_text(encoding="utf-8")
    assert page == layout.with_layout(page), "write it anew with: make layout"


def test_the_way_of_a_row_names_what_is_there():
    way = (
        (PROJECT / "CONTRIBUTING.md")
        .read_text(encoding="utf-8")
        .partition("## The way of one row")[2]
        .partition("\n## ")[0]
    )
    steps = re.findall(r"`([\w/]+\.py)`\s+`(\w+)`", way)
    assert len(steps) > 15
    for file, name in steps:
        assert re.search(rf"^\s*(def|class) {name}\b", (PROJECT / file).read_text(), re.MULTILINE), (file, name)


RECIPES = [block for block in ALL if block.page == "docs/extend.md"]
HEADINGS = list(dict.fromkeys(block.heading for block in RECIPES))


def test_a_recipe_touches_two_files_at_most():
    assert HEADINGS == ["A strategy", "An engine", "A task", "A metric", "A stage"]
    for heading in HEADINGS:
        files = {block.file for block in RECIPES if block.heading == heading and block.language != "bash"}
        assert None not in files, heading
        assert 1 <= len(files) <= 2, heading


@pytest.mark.slow
@pytest.mark.parametrize("heading", HEADINGS)
def test_a_recipe_works(heading: str, loop_once: Path, tmp_path: Path):
    """In a copy of the checkout: its files written, its diffs applied, its commands run."""
    checkout = copy_of_the_checkout(tmp_path / "checkout")
    (checkout / "runs").mkdir()
    (checkout / "runs/test").symlink_to(loop_once / "test")
    for block in RECIPES:
        if block.heading != heading or block.language == "bash":
            continue
        assert block.file is not None
        file = checkout / block.file
        file.write_text(apply_diff(file.read_text(), block.text) if block.language == "diff" else block.text)
    commands = [words for block, words in COMMANDS if block.page == "docs/extend.md" and block.heading == heading]
    assert commands
    for words in commands:
        told = subprocess.run([sys.executable, *words[1:]], cwd=checkout, capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
    new = [path for path in (checkout / "runs").iterdir() if path.name != "test"]
    assert new
    assert all((path / "_manifest.json").is_file() for path in new)


def test_the_page_of_artifacts_has_the_table_of_stages():
    assert "\n".join(stages.markdown_table()) in (PROJECT / "docs/artifacts.md").read_text()
