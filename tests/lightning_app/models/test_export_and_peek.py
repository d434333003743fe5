"""What leaves the project: the Hub folder; and what is shown of an artifact."""

import json
import re
from pathlib import Path

import pytest
from conftest import Stages

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.models.card import model_card


@pytest.fixture
def tested(stages: Stages) -> Stages:
    assert stages.teacher().code == 0
    assert stages.test("--model.model=teacher/model").code == 0
    return stages


@pytest.mark.slow
def test_export_makes_a_folder_ready_for_the_hub(tested: Stages):
    assert tested.cli("export", "--model=teacher/model", "--out=hub", "--test=test").code == 0
    card = Path("hub/README.md").read_text()
    metrics = artifacts.read_manifest(Path("test")).facts["metrics"]["en"]
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert f"| en | 23 | {metrics['accuracy']:.4f} |" in card
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {path.name for path in Path("hub").iterdir()}
    assert json.loads(Path("hub/config.json").read_text())["id2label"] == {
        "0": "negative", "1": "neutral", "2": "positive",
    }  # fmt: skip


@pytest.mark.slow
def test_export_refuses_results_of_another_model(tested: Stages, tiny_classifier: Path):
    assert tested.test(f"--model.model={tiny_classifier}", "--out=other").code == 0
    outcome = tested.cli("export", "--model=teacher/model", "--out=hub", "--test=other")
    assert outcome.code == 2
    assert "other: predictions of another model than teacher/model" in outcome.err
    assert not Path("hub").exists()


@pytest.mark.slow
def test_export_keeps_what_is_there(tested: Stages):
    Path("hub").mkdir()
    Path("hub/mine.txt").write_text("x")
    outcome = tested.cli("export", "--model=teacher/model", "--out=hub")
    assert outcome.code == 2
    assert "hub: not empty" in outcome.err
    assert Path("hub/mine.txt").exists()


@pytest.mark.slow
def test_export_replaces_an_export_and_nothing_else(tested: Stages):
    assert tested.cli("export", "--model=teacher/model", "--out=hub").code == 0
    assert tested.cli("export", "--model=teacher/model", "--out=hub", "--overwrite=true").code == 0
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("x")
    for out, said in (("mine", "not an export"), (".", "holds the model"), ("teacher/model", "holds the model")):
        outcome = tested.cli("export", "--model=teacher/model", f"--out={out}", "--overwrite=true")
        assert outcome.code == 2
        assert said in outcome.err
    assert Path("mine/thesis.txt").exists()
    assert Path("teacher/model/model.safetensors").exists()


@pytest.mark.slow
def test_export_needs_a_model_of_a_fit(tested: Stages):
    outcome = tested.cli("export", f"--model={tested.encoder}", "--out=hub")
    assert outcome.code == 2
    assert "no labelbridge.json" in outcome.err


@pytest.mark.slow
def test_peek_shows_rows_counts_and_origin(tested: Stages):
    assert tested.pseudolabel().code == 0
    assert tested.select().code == 0
    outcome = tested.cli("peek", "select", "--rows=2")
    assert outcome.code == 0
    for part in ("stage select", "from pool", "from pseudolabels", "prompt_label: ", "why", "top: rank 1 of"):
        assert part in outcome.out, part
    assert outcome.out.count(" why ") == 2
    assert "labels: [negative, neutral, positive]" in outcome.out  # brackets are no markup
    assert re.search(r"classes +available +quota +kept", outcome.out)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "shown"), [(1, 1), (99, 23)])
def test_peek_shows_as_many_rows_as_there_are(tested: Stages, rows: int, shown: int):
    outcome = tested.cli("peek", "test", f"--rows={rows}")
    assert outcome.code == 0
    assert outcome.out.count(" prediction ") == shown


@pytest.mark.slow
def test_peek_shows_where_a_model_comes_from(tested: Stages):
    outcome = tested.cli("peek", "teacher")
    assert outcome.code == 0, outcome.err
    said = " ".join(outcome.out.split())
    for part in ("stage teacher, 0 rows", "from gold: ", "from base: ", "main.py fit --config teacher.yaml"):
        assert part in said, part


@pytest.mark.slow
def test_peek_shows_what_training_dynamics_say_of_a_row(stages: Stages):
    assert stages.teacher(f"--data.pool.path={stages.files.pool}").code == 0
    outcome = stages.cli("peek", "teacher/dynamics", "--rows=2")
    assert outcome.code == 0, outcome.err
    assert "stage dynamics, 50 rows" in " ".join(outcome.out.split())
    for name in ("confidence", "variability", "correctness", "forgetting", "aum"):
        assert outcome.out.count(f" {name} ") == 2


@pytest.mark.slow
def test_peek_says_what_is_not_an_artifact(tested: Stages):
    outcome = tested.cli("peek", "data")
    assert outcome.code == 2
    assert "data: incomplete, there is no _manifest.json" in outcome.err


def test_a_card_speaks_of_synthetic_text_where_there_was_some():
    gold = {"gold": {"paths": ["g"], "fingerprint": "sha256:0"}}
    assert "written by a language model" not in model_card({"inputs": gold})
    assert "written by a language model" in model_card({"inputs": {**gold, "selection": gold["gold"]}})
    assert "chosen by macro_f1" in model_card({"monitor": "dev/macro_f1"})


def test_a_card_can_be_read_by_the_hub():
    """The metadata block is YAML, and no field is left open."""
    import yaml

    card = model_card({})
    assert yaml.safe_load(card.split("---")[1]) == {
        "library_name": "transformers", "pipeline_tag": "text-classification",
    }  # fmt: skip
    assert "{" not in card.split("```")[2]


def test_the_card_of_a_model_on_the_bundled_encoder_says_what_that_is():
    from labelbridge.lightning_app.models.card import model_card

    card = model_card({"base": "bundled", "task": {"name": "sentiment", "labels": ["negative", "positive"]}})
    assert "multilingual-e5-small" in card
    assert "4-bit weights" in card
    assert "MIT" in card
    assert "4-bit" not in model_card({"base": "org/encoder"})
