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
    with pytest.raises(InputError, match="model org/name: no such folder, .*local folder or a Hub id"):
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


def test_labels_that_mean_the_same_have_their_probabilities_added(tiny_bert: Path, task: Task, tmp_path: Path):
    stars = [f"{count} stars" for count in range(1, 6)]
    folder = save_classifier(tmp_path / "stars", tiny_bert, stars)
    label_map = dict(zip(stars, ["Negative", "negative", "neutral", "positive", None], strict=True))
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ours = load_classifier(str(folder), task, label_map, new_head=False).eval()
    inputs = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        five_B5, three_B3 = (model(**inputs).logits.softmax(dim=1) for model in (theirs, ours))
    summed_B3 = torch.stack([five_B5[:, 0] + five_B5[:, 1], five_B5[:, 2], five_B5[:, 3]], dim=1)
    torch.testing.assert_close(three_B3, summed_B3 / summed_B3.sum(dim=1, keepdim=True))
    assert list(ours.config.id2label.values()) == LABELS
    with pytest.raises(InputError, match=r"several of its labels mean one of the task's.*fit a bare encoder"):
        load_classifier(str(folder), task, label_map, new_head=True)


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        ({"6 stars": "positive"}, r"label_map names '6 stars', expected its labels \['1', '2', '3'\]"),
        ({"1": "bad", "2": "neutral", "3": "positive"}, r"label_map names 'bad', expected the task's labels"),
        ({"1": "negative"}, r"its labels \['1', '2', '3'\] do not cover the task's"),
    ],
)
def test_a_label_map_names_labels_that_there_are(label_map, message: str, tiny_bert: Path, task: Task, tmp_path: Path):
    folder = save_classifier(tmp_path / "three", tiny_bert, ["1", "2", "3"])
    with pytest.raises(InputError, match=message):
        load_classifier(str(folder), task, label_map, new_head=False)


def test_labels_match_in_any_normal_form(tiny_bert: Path, tmp_path: Path):
    folder = save_classifier(tmp_path / "accents", tiny_bert, ["ne\u0301gatif", "positif"])
    task = Task("s", ["text"], ["Positif", "n\u00e9gatif"])
    assert list(load_classifier(str(folder), task, new_head=False).config.id2label.values()) == task.labels


def edited(folder: Path, file: str, **changes: object) -> Path:
    """Change settings of a model's JSON file."""
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("is_bare", [True, False])
def test_what_a_base_says_of_its_own_head_is_not_inherited(is_bare: bool, tiny_bert: Path, task: Task, tmp_path: Path):
    base = (
        shutil.copytree(tiny_bert, tmp_path / "bare") if is_bare else save_classifier(tmp_path / "c", tiny_bert, LABELS)
    )
    leftovers = {"problem_type": "multi_label_classification", "function_to_apply": "sigmoid", "finetuning_task": "sst"}
    folder = edited(base, "config.json", **leftovers)
    load_classifier(str(folder), task, new_head=True).save_pretrained(tmp_path / "ours")
    written = json.loads((tmp_path / "ours/config.json").read_text())
    assert written["problem_type"] == "single_label_classification"
    assert not {"function_to_apply", "finetuning_task"} & set(written)
    if not is_bare:
        with pytest.raises(
            InputError, match="its problem_type is multi_label_classification, expected a classifier with"
        ):
            load_classifier(str(folder), task, new_head=False)


@pytest.mark.parametrize("order", [["neutral", "positive", "negative"], ["negative", "neutral", "positive"]])
@pytest.mark.parametrize("kind", ["bart", "gpt2", "mt5", "electra"])
def test_networks_of_every_kind_are_reordered(kind: str, order: list[str], task: Task, tmp_path: Path):
    """Some classify by an end token, some by the last token before the padding."""
    import transformers as T

    tiny = {"vocab_size": 20, "num_labels": 3, "id2label": dict(enumerate(order)), "pad_token_id": 0, "eos_token_id": 2}
    config = {
        "bart": lambda: T.BartConfig(
            d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=32, bos_token_id=1, decoder_start_token_id=2,
            forced_eos_token_id=2, **tiny,
        ),
        "gpt2": lambda: T.GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=32, **tiny),
        "mt5": lambda: T.MT5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0, **tiny),
        "electra": lambda: T.ElectraConfig(
            embedding_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, **tiny
        ),
    }[kind]()  # fmt: skip
    theirs = T.AutoModelForSequenceClassification.from_config(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_classifier(str(tmp_path), task, new_head=False).eval()
    ids = torch.tensor([[5, 6, 7, 2]])
    with torch.no_grad():
        expected = dict(zip(order, theirs(input_ids=ids).logits[0].tolist(), strict=True))
        found = dict(zip(LABELS, ours(input_ids=ids).logits[0].tolist(), strict=True))
    assert found == pytest.approx(expected, abs=1e-5)


def change_weights(folder: Path, change) -> Path:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_an_encoder_without_one_of_its_weights_is_refused_but_may_lack_its_pooler(
    tiny_bert: Path, task: Task, tmp_path: Path
):
    folder = shutil.copytree(tiny_bert, tmp_path / "a")
    change_weights(folder, lambda weights: [weights.pop(name) for name in list(weights) if "pooler" in name])
    assert load_classifier(str(folder), task, new_head=True).config.num_labels == 3
    change_weights(folder, lambda weights: weights.pop("encoder.layer.0.attention.self.query.weight"))
    with pytest.raises(InputError, match=r"weights missing for \['bert.encoder.layer.0.attention.self.query.weight'\]"):
        load_classifier(str(folder), task, new_head=True)


@pytest.mark.parametrize("new_head", [True, False])
def test_weights_that_are_no_numbers_are_refused(new_head: bool, tiny_classifier: Path, task: Task, tmp_path: Path):
    folder = shutil.copytree(tiny_classifier, tmp_path / "a")
    change_weights(folder, lambda weights: weights["bert.embeddings.LayerNorm.bias"].fill_(float("nan")))
    with pytest.raises(
        InputError, match=r"1 of its weights hold nan or inf, the first is bert.embeddings.LayerNorm.bias"
    ):
        load_classifier(str(folder), task, new_head=new_head)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: edited(folder, "config.json", hidden_size="large"),
        lambda folder: edited(folder, "config.json", id2label=["a", "b"]),
        lambda folder: edited(folder, "config.json", num_attention_heads=3),
        lambda folder: edited(folder, "config.json", model_type="t5"),
        lambda folder: edited(folder, "config.json", vocab_size=12),
        lambda folder: (folder / "config.json").write_text("[]"),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x00" * 9),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_line(spoil, tiny_classifier: Path, task: Task, tmp_path: Path):
    folder = shutil.copytree(tiny_classifier, tmp_path / "a")
    spoil(folder)
    with pytest.raises(InputError, match=f"^(model )?{folder}(: |/config.json: )") as caught:
        load_classifier(str(folder), task, new_head=False)
    assert "\n" not in str(caught.value)
