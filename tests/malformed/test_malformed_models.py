"""Models' folders: what cannot be loaded, and what would compute something else, is one line before any row is read."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LABELS, QUIET, Command, Files
from doors import all_of, assert_line, assert_refused, with_json, with_text
from safetensors.torch import load_file, save_file

from labelbridge.datamodules import GoldDataModule
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.models.locate import CARD_FACTS, card_facts
from labelbridge.modules import ClassifierModule
from labelbridge.modules.heads import load_classifier

TASK = Task("sentiment", ["text"], LABELS)
WEIGHTS = "m/model.safetensors"
Harm = Callable[[Path], object]


def open_model(folder: Path) -> None:
    """All that a command does with a model before it reads rows, and the weights."""
    name = str(folder)
    ClassifierModule(TASK, name).check("predict")
    GoldDataModule(task=TASK, model=name).check("test")
    load_classifier(name, TASK, new_head=False)


def config(**fields: Any) -> Harm:
    return with_json("m/config.json", **fields)


def tokenizer_config(**fields: Any) -> Harm:
    return with_json("m/tokenizer_config.json", **fields)


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Harm:
    def harm(folder: Path) -> None:
        save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})

    return harm


def without(*names: str) -> Harm:
    def harm(folder: Path) -> None:
        for name in names:
            (folder / "m" / name).unlink()

    return harm


def linked(name: str) -> Harm:
    return lambda folder: (folder / "m" / name).symlink_to("nowhere")


def pickled(folder: Path) -> None:
    """Weights as a pickle that runs a command when it is loaded."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("touch ran",)

    (folder / WEIGHTS).unlink()
    (folder / "m/pytorch_model.bin").write_bytes(pickle.dumps(Evil()))


def bad_words(folder: Path) -> None:
    """A tokenizer of more words than the network knows."""
    file = folder / "m/tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["another"] = 5000
    file.write_text(json.dumps(content))


def first(change: Callable[[torch.Tensor], torch.Tensor]) -> Harm:
    return weights(lambda one: {name: change(w) if number == 0 else w for number, (name, w) in enumerate(one.items())})


HARMS: dict[str, Harm] = {
    "no config": without("config.json"),
    "no weights": without("model.safetensors"),
    "no tokenizer": without("tokenizer.json"),
    "no files": lambda folder: (shutil.rmtree(folder / "m"), (folder / "m").mkdir()),
    "config empty": with_text("m/config.json", ""),
    "config cut": with_text("m/config.json", '{"model_type": "be'),
    "config a list": with_text("m/config.json", "[]"),
    "config null": with_text("m/config.json", "null"),
    "config {}": with_text("m/config.json", "{}"),
    "config not UTF-8": with_text("m/config.json", b"\xff\xfe"),
    "config deep": with_text("m/config.json", "[" * 20_000),
    "model_type unknown": config(model_type="nothing"),
    "model_type missing": config(model_type=...),
    "model_type a number": config(model_type=5),
    "model_type t5": config(model_type="t5"),
    "model_type gpt2": config(model_type="gpt2"),
    "model_type vit": config(model_type="vit"),
    "hidden_size a text": config(hidden_size="big"),
    "hidden_size other": config(hidden_size=32),
    "hidden_size 0": config(hidden_size=0),
    "hidden_size negative": config(hidden_size=-16),
    "hidden_size null": config(hidden_size=None),
    "heads do not divide": config(num_attention_heads=3),
    "heads 0": config(num_attention_heads=0),
    "layers more": config(num_hidden_layers=3),
    "layers fewer": weights(lambda one: {name.replace("layer.0", "layer.1"): w.clone() for name, w in one.items()} | one),
    "a weight that its layers have no place for": weights(lambda one: {**one, "bert.encoder.layer.0.gate.weight": torch.ones(2)}),
    "layers negative": config(num_hidden_layers=-1),
    "layers a text": config(num_hidden_layers="one"),
    "vocab smaller": config(vocab_size=8),
    "vocab larger": config(vocab_size=900),
    "vocab null": config(vocab_size=None),
    "positions too few": config(max_position_embeddings=2),
    "positions 0": config(max_position_embeddings=0),
    "activation unknown": config(hidden_act="none"),
    "id2label a list": config(id2label=["a", "b", "c"]),
    "id2label null": config(id2label=None, label2id=None),
    "id2label of two": config(id2label={"0": "negative", "1": "positive"}),
    "id2label of another task": config(id2label={"0": "a", "1": "b", "2": "c"}),
    "id2label numbers": config(id2label={"0": 0, "1": 1, "2": 2}),
    "id2label a gap": config(id2label={"0": "negative", "1": "neutral", "5": "positive"}),
    "id2label empty": config(id2label={}),
    "label2id of another order": config(
        id2label={str(number): name for number, name in enumerate(LABELS)}, label2id={name: number for number, name in enumerate(reversed(LABELS))}
    ),
    "five labels": config(id2label={str(number): name for number, name in enumerate([*LABELS, "d", "e"])}),
    "unnamed labels": config(id2label={str(number): f"LABEL_{number}" for number in range(3)}),
    "multi-label": config(problem_type="multi_label_classification"),
    "regression": config(problem_type="regression"),
    "problem_type unknown": config(problem_type="guess"),
    "weights empty": with_text(WEIGHTS, b""),
    "weights cut": lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100]),
    "weights' header cut": lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:20]),
    "weights a text": with_text(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"),
    "weights a header of lies": with_text(WEIGHTS, b"\xff" * 8 + b"{}"),
    "weights without tensors": weights(lambda _: {}),
    "a tensor missing": weights(lambda one: dict(list(one.items())[1:])),
    "the head missing": weights(lambda one: {k: w for k, w in one.items() if not k.startswith("classifier")}),
    "an encoder's alone": weights(lambda one: {k.removeprefix("bert."): w for k, w in one.items() if "classif" not in k}),
    "a tensor of another shape": first(lambda w: torch.zeros(w.shape[0] + 1, *w.shape[1:])),
    "nan": first(lambda w: torch.full_like(w, float("nan"))),
    "inf": first(lambda w: torch.full_like(w, float("inf"))),
    "int8": weights(lambda one: {name: (w * 10).to(torch.int8) for name, w in one.items()}),
    "booleans": weights(lambda one: {name: w > 0 for name, w in one.items()}),
    "eight bits without scales": weights(lambda one: {name: w.to(torch.float8_e4m3fn) for name, w in one.items()}),
    "huge but finite": weights(lambda one: {name: torch.full_like(w, 3e38) for name, w in one.items()}),
    "weights a link to nothing": all_of(without("model.safetensors"), linked("model.safetensors")),
    "weights pickled": pickled,
    "tokenizer empty": with_text("m/tokenizer.json", ""),
    "tokenizer cut": with_text("m/tokenizer.json", '{"version": "1.0", "mod'),
    "tokenizer {}": with_text("m/tokenizer.json", "{}"),
    "tokenizer a list": with_text("m/tokenizer.json", "[]"),
    "tokenizer without words": all_of(
        with_json("m/tokenizer.json", model={"type": "WordLevel", "vocab": {"[UNK]": 1}, "unk_token": "[UNK]"}),
        with_json("m/tokenizer.json", added_tokens=[]),
    ),
    "tokenizer of other words": bad_words,
    "tokenizer_config a list": with_text("m/tokenizer_config.json", "[]"),
    "tokenizer_config cut": with_text("m/tokenizer_config.json", "{"),
    "model_max_length 0": tokenizer_config(model_max_length=0),
    "model_max_length 2": tokenizer_config(model_max_length=2),
    "model_max_length negative": tokenizer_config(model_max_length=-5),
    "model_max_length a text": tokenizer_config(model_max_length="long"),
    "no pad token": tokenizer_config(pad_token=None),
    "pad token a number": tokenizer_config(pad_token=5),
    "model_max_length nan": tokenizer_config(model_max_length=float("nan")),
    "model_max_length infinite": tokenizer_config(model_max_length=float("inf")),
    "pads on the left": tokenizer_config(padding_side="left"),
    "a decoder": config(is_decoder=True),
    "no output by name": config(return_dict=False),
    "a billion labels": config(num_labels=10**9),
    "a million layers": config(num_hidden_layers=10**6),
    "no labels": config(num_labels=-1),
    "a link to nothing": linked("special_tokens_map.json"),
    "card facts a link to nothing": linked("labelbridge.json"),
    "types": all_of(config(type_vocab_size=1)),
    "type_vocab 0": config(type_vocab_size=0),
    "an adapter without a base": all_of(without("config.json"), with_text("m/adapter_config.json", "{}")),
    "an adapter of nothing": all_of(
        without("config.json"), with_text("m/adapter_config.json", '{"base_model_name_or_path": "runs/no/such"}')
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMS)
def test_a_malformed_model_is_one_line(
    tmp_path: Path, tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_classifier, tmp_path / "m")
    open_model(Path("m"))
    HARMS[name](tmp_path)
    with pytest.raises(InputError) as caught:
        open_model(Path("m"))
    assert_line(str(caught.value), "m[: /]")
    assert not Path("ran").exists()


FACTS: dict[str, tuple[Any, ...]] = {
    "languages": ([5], "hi", {}), "license": (5, []), "temperature": (0, -1, "warm"),
    "max_length": (0, -1, 2.5, 10**9), "near_duplicates": ([5], "x"), "dev_confusion": ([[-1]], [1], [["x"]]),
    "lineage": ([5], [{"stage": "select"}], {}), "averaged": ([5], [{"path": 5, "fingerprint": "x"}]),
    "onnx": ([], {"model.onnx": {}}), "lora": (5, {"r": "x", "alpha": 1}), "head_seed": ("x",),
    "label_prior": (5, {}, {"how": "given", "source": {"a": 0}}, {"how": "em", "target_text": {}}),
    "conformal": ({}, {"alpha": "x", "threshold": 1}), "base_fingerprint": (5,), "source_code": (5,),
}  # fmt: skip


@pytest.mark.parametrize(("fact", "value"), [(fact, value) for fact, values in FACTS.items() for value in values])
def test_a_fact_of_another_type_is_one_line(tmp_path: Path, tiny_classifier: Path, fact: str, value: Any):
    model = shutil.copytree(tiny_classifier, tmp_path / "m")
    (model / CARD_FACTS).write_text(json.dumps({fact: value}))
    with pytest.raises(InputError) as caught:
        card_facts(str(model))
    assert_line(str(caught.value), f"facts: {fact}")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN"])
def test_a_fact_that_is_not_finite_is_one_line(tmp_path: Path, tiny_classifier: Path, number: str):
    model = shutil.copytree(tiny_classifier, tmp_path / "m")
    (model / CARD_FACTS).write_text(f'{{"temperature": {number}}}')
    with pytest.raises(InputError, match=f"{number} is not a finite number"):
        card_facts(str(model))


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "--config=pseudolabel.yaml", "--model.model=m", "--data.pool=data/pool.jsonl"),
        ("predict", "--config=pseudolabel.yaml", "--model.model=good", "--model.ensemble=[m]", "--data.pool=data/pool.jsonl"),
        ("test", "--config=test.yaml", "--model.model=m", '--data.targets={"en": "data/target.jsonl"}'),
        ("fit", "--config=teacher.yaml", "--model.model=m", "--data.train=data/gold.jsonl", "--data.dev=data/dev.jsonl"),
        ("validate", "--config=teacher.yaml", "--model.model=m", "--data.train=data/gold.jsonl", "--data.dev=data/dev.jsonl"),
        ("export", "--model=m"),
    ],
    ids=lambda words: f"{words[0]} {len(words)}",
)  # fmt: skip
def test_malformed_facts_are_refused_before_any_row_is_scored(
    cli: Command, files: Files, tiny_classifier: Path, words: tuple[str, ...]
):
    for name in ("m", "good"):
        shutil.copytree(tiny_classifier, name)
    (Path("m") / CARD_FACTS).write_text('{"conformal": {"alpha": 0.1}}')
    assert_refused(
        cli(*words, "--out=o", *(QUIET if words[0] != "export" else ())), "m/labelbridge.json: facts: conformal"
    )
    assert not Path("o").exists()


@pytest.mark.parametrize("other", ["m", "copy/model", "link"])
def test_a_model_has_no_mean_with_itself(cli: Command, files: Files, tiny_classifier: Path, other: str):
    for name in ("m", "copy/model"):
        shutil.copytree(tiny_classifier, name)
        (Path(name) / CARD_FACTS).write_text(json.dumps({"method": name}))
    Path("link").symlink_to("m")
    pseudolabel = (
        "--config=pseudolabel.yaml",
        "--model.model=m",
        f"--model.ensemble=[{other}]",
        "--data.pool=data/pool.jsonl",
    )
    said = f"{other} is the same model as m, expected different ones"
    assert_refused(cli("predict", *pseudolabel, "--out=o", *QUIET), f"model.ensemble: {said}")
    assert_refused(cli("export", f"--average=[m, {other}]", "--out=o"), f"average: {said}")
    assert not Path("o").exists()


@pytest.mark.parametrize(
    ("names", "said"), [(("model.safetensors",), "no weights"), (("tokenizer.json",), "no tokenizer")]
)
def test_a_folder_without_a_model_is_not_exported(
    cli: Command, files: Files, tiny_classifier: Path, names: tuple[str, ...], said: str
):
    shutil.copytree(tiny_classifier, "m")
    (Path("m") / CARD_FACTS).write_text("{}")
    without(*names)(Path())
    assert_refused(cli("export", "--model=m", "--out=o"), f"m: {said} in it")
    assert not Path("o").exists()
