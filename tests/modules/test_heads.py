"""Label names and the order of logits."""

from pathlib import Path

import pytest
import torch
from conftest import LABELS, save_classifier
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lightning_app.errors import InputError
from lightning_app.task import Task
from modules.heads import freeze_lower_layers, load_classifier


def logits_by_label(model, folder: Path) -> dict[str, float]:
    inputs = AutoTokenizer.from_pretrained(folder)("the table was very cold", return_tensors="pt")
    with torch.no_grad():
        logits = model.eval()(**inputs).logits[0]
    return {model.config.id2label[number].lower(): float(value) for number, value in enumerate(logits)}


@pytest.mark.parametrize("base", ["tiny_bert", "tiny_xlmr"])
def test_logits_are_permuted_to_the_tasks_order_by_name(base: str, task: Task, tmp_path: Path, request):
    encoder = request.getfixturevalue(base)
    if base == "tiny_xlmr":
        folder = tmp_path / "xlmr"
        model = AutoModelForSequenceClassification.from_pretrained(
            encoder, id2label={0: "Positive", 1: "Neutral", 2: "Negative"}, num_labels=3
        )
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    else:
        folder = save_classifier(tmp_path / "bert", encoder, ["Positive", "Neutral", "Negative"])
    theirs = AutoModelForSequenceClassification.from_pretrained(folder)
    ours = load_classifier(str(folder), task, new_head=False)
    assert list(ours.config.id2label.values()) == LABELS
    assert logits_by_label(ours, folder) == pytest.approx(logits_by_label(theirs, folder))


def test_a_permuted_model_is_saved_and_loaded_in_the_new_order(tiny_classifier: Path, task: Task, tmp_path: Path):
    ours = load_classifier(str(tiny_classifier), task, new_head=False)
    ours.save_pretrained(tmp_path / "again")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "again")
    assert logits_by_label(again, tiny_classifier) == pytest.approx(logits_by_label(ours, tiny_classifier))


def test_a_model_with_more_labels_is_cut_to_the_tasks(tiny_bert: Path, task: Task, tmp_path: Path):
    folder = save_classifier(tmp_path / "four", tiny_bert, ["mixed", "positive", "neutral", "negative"])
    theirs = AutoModelForSequenceClassification.from_pretrained(folder)
    ours = load_classifier(str(folder), task, new_head=False)
    expected = logits_by_label(theirs, folder)
    assert logits_by_label(ours, folder) == pytest.approx({label: expected[label] for label in LABELS})


def test_a_new_head_is_the_seeds_and_leaves_the_random_numbers_alone(tiny_bert: Path, task: Task):
    state = torch.get_rng_state()
    heads = [load_classifier(str(tiny_bert), task, new_head=True, seed=seed).classifier.weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_replaces_every_rate(tiny_bert: Path, task: Task):
    model = load_classifier(str(tiny_bert), task, new_head=True, dropout=0.0)
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}


def test_a_model_that_is_not_there(task: Task):
    with pytest.raises(InputError, match=r"\./nowhere: no such model folder; make it"):
        load_classifier("./nowhere", task, new_head=True)
    with pytest.raises(InputError, match="model org/name: cannot be loaded .*local folder or a Hub id"):
        load_classifier("org/name", task, new_head=True)


def test_a_classifier_without_its_head(tiny_classifier: Path, task: Task, tmp_path: Path):
    """Weights that would be made at random are refused even where the labels are named."""
    from safetensors.torch import load_file, save_file

    for file in tiny_classifier.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = {
        name: value for name, value in load_file(tmp_path / "model.safetensors").items() if "classifier" not in name
    }
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"weights missing for \['classifier"):
        load_classifier(str(tmp_path), task, new_head=False)


def trained(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("base", ["tiny_bert", "tiny_xlmr"])
def test_frozen_layers_are_the_embeddings_and_the_lowest_layers(base: str, task: Task, request):
    folder = str(request.getfixturevalue(base))
    model = load_classifier(folder, task, new_head=True)
    freeze_lower_layers(model, 0, folder)
    assert trained(model) == {name for name, _ in model.named_parameters() if "embeddings" not in name}
    freeze_lower_layers(model, 1, folder)
    assert trained(model)
    assert not any("embeddings" in name or ".layer.0." in name for name in trained(model))


@pytest.mark.parametrize("count", [-1, 2])
def test_no_more_layers_are_frozen_than_there_are(count: int, tiny_bert: Path, task: Task):
    with pytest.raises(InputError, match=rf"model.frozen_layers is {count}, expected 0 to 1"):
        freeze_lower_layers(load_classifier(str(tiny_bert), task, new_head=True), count, "tiny")
