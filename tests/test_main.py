"""The command line: quick help, configs that parse, and files found by name."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, Command

CONFIGS = sorted(
    path.relative_to(PROJECT / "configs")
    for path in (PROJECT / "configs").rglob("*.yaml")
    if path.parent.name != "prompts"  # read by `read_spec`, which has tests of its own
)
COMMANDS = {
    "teacher": "fit", "student": "fit", "validate": "validate", "test": "test", "pseudolabel": "predict",
    "embed": "predict",
    "generate": "predict", "clean": "clean",
    "select": "select", "annotate": "annotate", "report": "report", "translate": "predict", "codemix": "fit", "codemix_translate": "predict",
    "codemix_test": "test",
}  # fmt: skip


def test_help_lists_every_command_without_importing_torch():
    script = "import sys; from labelbridge.__main__ import main; main(['--help']); print(sorted({'torch', 'lightning', 'yaml'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"
    for command in ("fit", "validate", "test", "predict", "clean", "select", "report", "export", "peek"):
        assert f"\n  {command} " in told.stdout


def test_select_help_names_every_setting_without_importing_torch():
    script = (
        "import sys\nfrom labelbridge.__main__ import main\ncode = main(['select', '--help', 'all'])\n"
        "print(code, sorted({'torch', 'lightning', 'transformers'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "0 []"
    assert "--class_from" in told.stdout
    assert "last_epoch" in told.stdout
    assert "Args:" not in told.stdout  # the parser lists the arguments itself


@pytest.mark.parametrize("command", ["select", "annotate", "report", "export", "peek", "fit", "predict"])
def test_every_command_has_help(cli: Command, command: str):
    outcome = cli(command, "--help")
    assert outcome.code == 0
    assert "usage:" in outcome.out


def base_of(config: Path) -> str:
    """The stage file that an overlay is laid over: `translate.yaml` for `translate_nllb.yaml`."""
    if config.parts[0] == "paper" or len(config.parts) == 1:
        stage = config.stem.split("_")[0]
        return stage if stage in COMMANDS else "student"
    if config.parts[0] == "data":
        keys = yaml.safe_load((PROJECT / "configs" / config).read_text())
        return "test" if "targets" in keys["data"]["init_args"] else "student"
    return "student"


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_config_parses(cli: Command, config: Path):
    stage = base_of(config)
    over = [] if str(config) == f"{stage}.yaml" else ["--config", str(config)]
    command = COMMANDS[stage]
    outcome = cli(command, "--config", f"{stage}.yaml", *over, "--print_config")
    assert outcome.code == 0, outcome.err
    assert yaml.safe_load(outcome.out)["out" if "out" in outcome.out else "runs"]


@pytest.mark.parametrize(
    ("config", "engine"),
    [("translate_nllb.yaml", "TransformersTranslator"), ("paper/translate.yaml", "IndicTrans2Translator")],
)
def test_a_model_laid_over_the_dictionary_brings_its_class_and_all_gates(cli: Command, config: str, engine: str):
    from labelbridge.lightning_app.translation.gates import Gates

    outcome = cli("predict", "--config", "translate.yaml", "--config", config, "--print_config")
    assert outcome.code == 0, outcome.err
    told = yaml.safe_load(outcome.out)
    assert told["model"]["class_path"] == f"labelbridge.modules.{engine}"
    assert "lexicon" not in told["model"]["init_args"]
    assert told["data"]["init_args"]["gates"] == vars(Gates())


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_config_says_how_to_run_it(config: Path):
    head = (PROJECT / "configs" / config).read_text().split("\n\n")[0]
    assert "#   python main.py " in head
    named = [
        word for line in head.splitlines() if "--config" in line for word in line.split() if word.endswith(".yaml")
    ]
    assert named
    assert all((PROJECT / "configs" / name).is_file() for name in named), named


@pytest.mark.parametrize("name", ["select.yaml", "select", "paper/select.yaml"])
def test_configs_are_found_beside_main_from_any_folder(cli: Command, name: str):
    assert cli("select", "--config", "select.yaml", "--config", name, "--print_config").code == 0


def test_a_config_of_ones_own_comes_first(cli: Command):
    Path("select.yaml").write_text("quota: 77\n")
    outcome = cli("select", "--config", "select.yaml", "--print_config")
    assert "77" in outcome.out


def test_the_command_line_wins_over_configs(cli: Command):
    outcome = cli("select", "--config", "select.yaml", "--quota=5", "--print_config")
    assert yaml.safe_load(outcome.out)["quota"] == 5


def test_help_imports_nothing_that_takes_long():
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "main.py", "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.splitlines()}
    assert "labelbridge" in imported
    assert imported.isdisjoint({"torch", "lightning", "transformers", "jsonargparse", "pyarrow", "numpy", "pydantic"})
