"""What every stage names as the next command."""

import json
import shlex
from pathlib import Path

import pytest
from conftest import PROJECT

from labelbridge.lightning_app.cli.next_steps import Finished, next_command, next_line
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.readers import Source
from labelbridge.lightning_app.stages import STAGES

TOPIC = Task("topic", ["text"], ["sports", "politics"])


@pytest.mark.parametrize(
    ("finished", "command"),
    [
        (Finished("generate", "runs/generate"), "clean --config clean.yaml --raw runs/generate"),
        (Finished("clean", "runs/clean"), "fit --config teacher.yaml --data.pool runs/clean"),
        (
            Finished("clean", "runs/clean", variant="teacher is trained"),
            "predict --config pseudolabel.yaml --data.pool runs/clean",
        ),
        (Finished("teacher", "runs/teacher"), "predict --config pseudolabel.yaml"),
        (Finished("pseudolabel", "runs/pseudolabel"), "select --config select.yaml"),
        (
            Finished("pseudolabel", "runs/pseudolabel", variant="target text"),
            "select --config select.yaml --prompt_labels false --strategy certain",
        ),
        (
            Finished("embed", "runs/embed"),
            "select --config select.yaml --strategy diverse --embeddings runs/embed --out runs/select-diverse",
        ),
        (Finished("select", "runs/select"), "fit --config student.yaml --data.selection runs/select"),
        (Finished("student", "runs/student"), "test --config test.yaml"),
        (Finished("test", "runs/test-teacher"), "report --config report.yaml --runs runs/test-teacher --out runs/report-teacher"),
        (Finished("codemix", "runs/codemix"), "test --config codemix_test.yaml"),
        (
            Finished("score", "runs/codemix_test", model="runs/codemix/model"),
            "export --model runs/codemix/model --test runs/codemix_test --out runs/export-codemix_test",
        ),
    ],
    ids=lambda value: f"{value.stage}" if isinstance(value, Finished) else "",
)  # fmt: skip
def test_defaults_are_left_out(finished: Finished, command: str):
    assert next_command(finished) == f"python main.py {command}"


def test_outputs_go_beside_the_stage_and_are_named_alike():
    command = next_command(Finished("teacher", "runs/hi/teacher-large"))
    assert command == (
        "python main.py predict --config pseudolabel.yaml --model.model runs/hi/teacher-large/model "
        "--out runs/hi/pseudolabel-large"
    )
    assert next_command(Finished("select", "mine")) == (
        "python main.py fit --config student.yaml --data.selection mine --out student-mine"
    )


def test_a_pool_is_carried_on_with_all_of_its_settings():
    plain = next_command(Finished("pseudolabel", "runs/pseudolabel", pool=Source("my/pool.jsonl")))
    assert plain == "python main.py select --config select.yaml --pool my/pool.jsonl"
    sources = [Source("a.csv", columns={"text": "body"}), Source("b.jsonl", id_prefix="b/")]
    words = shlex.split(next_command(Finished("pseudolabel", "runs/pseudolabel", pool=sources)))
    assert json.loads(words[words.index("--pool") + 1]) == [
        {"path": "a.csv", "columns": {"text": "body"}}, {"path": "b.jsonl", "id_prefix": "b/"},
    ]  # fmt: skip


def test_another_task_is_carried_on_and_its_data_has_placeholders():
    words = shlex.split(next_command(Finished("select", "runs/select", TOPIC)))
    assert json.loads(words[words.index("--task") + 1]) == {
        "name": "topic", "columns": ["text"], "labels": ["sports", "politics"],
    }  # fmt: skip
    assert words[words.index("--data.train") + 1] == "GOLD"
    teacher = next_command(Finished("teacher", "runs/teacher", TOPIC, pool=Source("my/pool.jsonl")))
    assert teacher.endswith("--data.pool my/pool.jsonl")
    assert next_command(Finished("teacher", "runs/teacher", TOPIC)).endswith("--data.pool POOL")


def test_the_task_of_the_configuration_is_left_out(task: Task):
    assert next_command(Finished("student", "runs/student", task)) == "python main.py test --config test.yaml"


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("gold", "fit --config teacher.yaml --setting translate-train --data.train runs/hi/train"),
        ("pool", "predict --config pseudolabel.yaml --data.pool runs/hi/train"),
        ("selection", "--data.selection runs/hi/train"),
        ("targets", """--data.targets '{"hi": "runs/hi/train"}'"""),
        ("no labels", "predict --config embed.yaml --data.pool runs/hi/train --data.prompt_labels false"),
    ],
)
def test_translated_rows_take_the_place_of_the_originals(role: str, said: str):
    facts = {"source_language": "hi", "setting": "translate-train"}
    assert said in next_command(Finished("translate", "runs/hi/train", facts=facts, variant=role))


def test_a_report_names_the_page_to_open(tmp_path: Path):
    assert next_line(Finished("report", str(tmp_path))) is None
    (tmp_path / "report.md").write_text("")
    assert next_line(Finished("report", str(tmp_path))) == f"next: open {tmp_path / 'report.md'}"


def test_an_export_is_uploaded():
    assert next_line(Finished("export", "runs/my export")) == "next: hf upload USER/NAME 'runs/my export'"


def test_a_stage_without_a_successor_ends_without_a_line():
    assert next_line(Finished("validate", "runs/validate")) is None


@pytest.mark.parametrize("step", [step for stage in STAGES for step in stage.next.values()])
def test_every_configuration_exists(step):
    assert step.config is None or (PROJECT / "configs" / step.config).is_file()
