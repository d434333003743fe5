"""What the rooms may rely on: the table of stages, the protocols, and what counts as the same run."""

import importlib
from pathlib import Path

from conftest import PROJECT, Command, Stages

from labelbridge.lightning_app import stages as table


def test_every_class_function_and_configuration_of_the_table_is_there():
    for stage in table.STAGES:
        for path in (*stage.modules, *stage.data, *filter(None, [stage.function])):
            module, _, name = path.rpartition(".")
            assert callable(getattr(importlib.import_module(module), name)), path
        assert stage.config is None or (PROJECT / "configs" / stage.config).is_file()


def test_every_command_and_configuration_of_the_table_is_in_the_help():
    lines = "\n".join(table.help_lines())
    for stage in table.STAGES:
        assert f"  {stage.command} " in lines
        assert stage.does in lines
        assert stage.config is None or f"--config {stage.config}" in lines


def test_a_missing_artifact_names_the_command_that_makes_it():
    assert table.maker("select") == "python main.py select --config select.yaml"
    assert table.maker("dynamics") == "python main.py fit --config teacher.yaml --data.pool.path POOL"
    assert table.maker("validate") is None  # writes no artifact
    assert table.maker("of no stage") is None


def test_a_module_that_is_none_of_a_stage_is_refused(cli: Command):
    Path("of_no_stage.py").write_text(
        "from lightning.pytorch import LightningModule\n\nclass Mine(LightningModule):\n    pass\n"
    )
    outcome = cli("fit", "--config", "teacher.yaml", "--model=of_no_stage.Mine")
    assert outcome.code == 2
    assert "Mine: not the module of a stage, expected a subclass of one of TeacherModule" in outcome.err


def test_a_student_requires_rows_with_a_selection(cli: Command):
    outcome = cli("fit", "--config", "teacher.yaml", "--model=StudentModule")
    assert outcome.code == 2
    assert "GoldDataModule: not a DataModule of stage 'student', expected MixedDataModule" in outcome.err


def test_a_module_without_the_command_names_the_commands_that_it_has(stages: Stages):
    outcome = stages.cli("predict", "--config", "codemix.yaml", "--out=out")
    assert outcome.code == 2
    assert "Seq2SeqModule: has no predict, only fit and validate" in outcome.err
