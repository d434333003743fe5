"""Model folders of which a part is missing, changed, or of another model: none is exported, and no adapter is loaded."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from doors import Harm, assert_refused, assert_untouched, contents, with_json, with_text
from safetensors.torch import load_file, save_file

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.models.seq2seq import load_seq2seq
from labelbridge.modules.sequence_models import Lora, add_lora

MODEL = "teacher/model"
OTHER_TASK = {"name": "nli", "columns": ["premise", "hypothesis"], "labels": ["a", "b", "c"]}
Weights = dict[str, torch.Tensor]


def with_weights(file: str, change: Callable[[Weights], Weights]) -> Harm:
    """A harm that rewrites the tensors of a file."""

    def harm(folder: Path) -> None:
        changed = {name: tensor.contiguous() for name, tensor in change(load_file(folder / file)).items()}
        save_file(changed, folder / file, metadata={"format": "pt"})

    return harm


def model_with(change: Callable[[Weights], Weights]) -> Harm:
    return with_weights(f"{MODEL}/model.safetensors", change)


def as_bytes(weights: Weights) -> Weights:
    return {name: (9 * tensor).to(torch.int8) for name, tensor in weights.items()}


def renamed(weights: Weights) -> Weights:
    return {f"x.{name}": tensor for name, tensor in weights.items()}


# What is wrong with the folder -> what is said of it.
CLASSIFIERS: dict[str, tuple[Harm, str]] = {
    "another width": (with_json(f"{MODEL}/config.json", hidden_size=32), "other shapes than its config.json says"),
    "no layers": (with_json(f"{MODEL}/config.json", num_hidden_layers=0), "weights have no place in its network"),
    "more layers": (with_json(f"{MODEL}/config.json", num_hidden_layers=9), "weights missing"),
    "other labels": (
        with_json(f"{MODEL}/config.json", id2label={"0": "a", "1": "b", "2": "c"}, label2id=...),
        "its labels are .*, expected those of the task",
    ),
    "labels in another order": (
        with_json(f"{MODEL}/config.json", id2label={"0": "neutral", "1": "negative", "2": "positive"}, label2id=...),
        "its labels are .*, expected those of the task",
    ),
    "several labels a row": (
        with_json(f"{MODEL}/config.json", problem_type="multi_label_classification"), "its problem_type is multi_label",
    ),
    "another vocabulary": (with_json(f"{MODEL}/config.json", vocab_size=9), "its tokenizer has a token"),
    "a tokenizer cut": (with_text(f"{MODEL}/tokenizer.json", '{"a'), "its tokenizer cannot be loaded"),
    "a weight missing": (model_with(lambda weights: dict(list(weights.items())[1:])), "weights missing"),
    "no head": (
        model_with(lambda weights: {name: one for name, one in weights.items() if "classifier" not in name}),
        "weights missing for .*classifier",
    ),
    "no weight at all": (model_with(lambda _weights: {}), "weights missing"),
    "weights under other names": (model_with(renamed), "weights missing"),
    "weights of bytes": (model_with(as_bytes), "whole numbers or bytes"),
    "no facts": (with_text(f"{MODEL}/labelbridge.json", "{}"), "names neither task nor languages"),
    "foreign facts": (with_text(f"{MODEL}/labelbridge.json", '{"a": {"b": 1}}'), "names neither task nor languages"),
    "facts of another task": (with_json(f"{MODEL}/labelbridge.json", task=OTHER_TASK, labels=...), "its labels are"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("words", [(), ("--prior=uniform",)], ids=["as it is", "prior"])
def test_a_damaged_classifier_is_not_exported(world: Path, cli: Command, name: str, words: tuple[str, ...]):
    harm, said = CLASSIFIERS[name]
    harm(world)
    before = contents(world)
    assert_refused(cli("export", f"--model={MODEL}", "--out=o", *words), said)
    assert_untouched(world, before)


def test_a_damaged_run_has_no_part_in_a_mean(world: Path, cli: Command):
    shutil.copytree("teacher", "other")
    with_weights("other/model/model.safetensors", lambda weights: {name: one * 1.1 for name, one in weights.items()})(
        world
    )
    with_text("other/model/tokenizer.json", '{"a')(world)
    assert_refused(cli("export", "--average=[teacher, other]", "--out=o"), "other/model: its tokenizer")
    assert not Path("o").exists()


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_nllb: Path) -> Path:
    """The folder `ad` of an untrained adapter over the folder `base`, which is there as well."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_nllb, "base")
    adapted = add_lora(load_seq2seq("base"), Lora(r=4, targets=["q_proj", "v_proj"]), "base", None, 0)
    adapted.save_pretrained("ad")
    return Path("ad")


def adapter_with(change: Callable[[Weights], Weights]) -> Harm:
    return with_weights("ad/adapter_model.safetensors", change)


def settings(**changed: Any) -> Harm:
    return with_json("ad/adapter_config.json", **changed)


def as_pickle(folder: Path) -> None:
    file = folder / "ad/adapter_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()


ADAPTERS: dict[str, tuple[Harm, str]] = {
    "no weights": (lambda folder: (folder / "ad/adapter_model.safetensors").unlink(), "no such file"),
    "pickled weights": (as_pickle, "adapter_model.safetensors: no such file"),
    "weights cut": (with_text("ad/adapter_model.safetensors", b"\x10"), "adapter_model.safetensors cannot be loaded"),
    "half of the weights": (adapter_with(lambda weights: dict(list(weights.items())[::2])), "weights are missing"),
    "no weight at all": (adapter_with(lambda _weights: {}), "weights are missing"),
    "weights under other names": (adapter_with(renamed), "weights are missing"),
    "further weights": (adapter_with(lambda weights: {**weights, "x": torch.zeros(2)}), "no place in the network"),
    "weights of bytes": (adapter_with(as_bytes), "whole numbers or bytes"),
    "weights of nan": (
        adapter_with(lambda weights: {name: one * torch.nan for name, one in weights.items()}), "hold nan or inf",
    ),
    "weights whose product is inf": (
        adapter_with(lambda weights: {name: torch.full_like(one, 3e38) for name, one in weights.items()}),
        "hold nan or inf",
    ),
    "fewer layers": (settings(target_modules=["q_proj"]), "no place in the network"),
    "more layers": (settings(target_modules=["q_proj", "v_proj", "k_proj"]), "weights are missing"),
    "other layers": (settings(target_modules=["k_proj"]), "weights are missing"),
    "unknown layers": (settings(target_modules=["zz"]), "its adapter cannot be loaded"),
    "no layers": (settings(target_modules=[]), "its adapter cannot be loaded"),
    "another rank": (settings(r=8), "its adapter cannot be loaded"),
    "a rank of 0": (settings(r=0), "its adapter cannot be loaded"),
    "a rank of text": (settings(r="x"), "its adapter cannot be loaded"),
    "a weight for every layer's direction": (settings(use_dora=True), "weights are missing"),
    "biases": (settings(bias="all"), "weights are missing"),
    "a type that is none": (settings(peft_type="X"), "its adapter cannot be loaded"),
    "itself as its base": (settings(base_model_name_or_path="ad"), "builds on this adapter again"),
}  # fmt: skip


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_damaged_adapter_is_not_loaded(adapter: Path, name: str):
    harm, said = ADAPTERS[name]
    harm(Path())
    with pytest.raises(InputError, match=said):
        load_seq2seq(str(adapter))


def test_adapters_that_build_on_each_other_are_one_line(adapter: Path):
    shutil.copytree(adapter, "other")
    settings(base_model_name_or_path="other")(Path())
    with_json("other/adapter_config.json", base_model_name_or_path="ad")(Path())
    with pytest.raises(InputError, match="builds on this adapter again"):
        load_seq2seq(str(adapter))
