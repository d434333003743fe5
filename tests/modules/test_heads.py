"""Label names and the order of logits."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import LABELS, save_classifier
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.modules.heads import append_mean_pooling, freeze_lower_layers, load_classifier, pooling_of


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


SENTENCES = ["the table was very cold", "it was a very very good morning with the table"]


def as_sentence_encoder(encoder: Path, folder: Path, **pooling: object) -> Path:
    """A copy with sentence-transformers' own note of how it is pooled."""
    shutil.copytree(encoder, folder, dirs_exist_ok=True)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    return folder


@pytest.mark.parametrize("base", ["tiny_bert", "tiny_xlmr"])
def test_the_pooling_layer_brings_the_mean_of_all_tokens_to_the_first(base: str, task: Task, request):
    folder = request.getfixturevalue(base)
    inputs = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
    model = load_classifier(str(folder), task, new_head=True).eval()
    with torch.no_grad():
        before_BLD = model.base_model(**inputs).last_hidden_state
        append_mean_pooling(model, "tiny")
        after_BLD = model.base_model(**inputs).last_hidden_state
    real_BL1 = inputs["attention_mask"][:, :, None]
    mean_BD = (before_BLD * real_BL1).sum(dim=1) / real_BL1.sum(dim=1)
    expected_BD = torch.nn.functional.layer_norm(before_BLD[:, 0] + 4 * mean_BD, before_BLD.shape[2:])
    torch.testing.assert_close(after_BLD[:, 0], expected_BD, atol=1e-5, rtol=1e-5)


def test_a_pooled_model_is_saved_as_an_ordinary_one(tiny_bert: Path, task: Task, tmp_path: Path):
    folder = as_sentence_encoder(tiny_bert, tmp_path / "encoder", pooling_mode_mean_tokens=True)
    ours = load_classifier(str(folder), task, new_head=True)
    ours.save_pretrained(tmp_path / "saved")
    theirs, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert theirs.config.num_hidden_layers == 2
    assert not info["missing_keys"]
    assert logits_by_label(theirs, tiny_bert) == pytest.approx(logits_by_label(ours, tiny_bert))
    again = load_classifier(str(tmp_path / "saved"), task, new_head=False)
    assert again.config.num_hidden_layers == 2  # a head that is there already is left alone


def test_an_encoder_is_read_as_it_was_trained_unless_the_user_says_otherwise(
    tiny_bert: Path, task: Task, tmp_path: Path
):
    mean = str(as_sentence_encoder(tiny_bert, tmp_path / "mean", pooling_mode_mean_tokens=True))
    first = str(as_sentence_encoder(tiny_bert, tmp_path / "first", pooling_mode_cls_token=True))
    assert [pooling_of(name) for name in (mean, first, str(tiny_bert))] == ["mean", "first", "first"]
    assert load_classifier(mean, task, new_head=True).config.num_hidden_layers == 2
    assert load_classifier(mean, task, new_head=True, pooling="first").config.num_hidden_layers == 1
    assert load_classifier(first, task, new_head=True, pooling="mean").config.num_hidden_layers == 2


def test_a_network_of_another_kind_cannot_be_given_a_pooling_layer(task: Task):
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(vocab_size=20, dim=8, n_layers=1, n_heads=2, hidden_dim=8)
    with pytest.raises(InputError, match=r"is of type distilbert, expected one of bert.*--model.pooling first"):
        append_mean_pooling(DistilBertForSequenceClassification(config), "distil")
