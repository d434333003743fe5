"""Models that write text, translations or embeddings: what cannot work is one line, before any row is read."""

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LABELS
from doors import Harm, all_of, assert_line, with_json, with_text
from safetensors.torch import load_file, save_file

from labelbridge.datamodules import PoolDataModule
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.modules import EmbedderModule, LexiconTranslator, TransformersGenerator, TransformersTranslator

TASK = Task("sentiment", ["text"], LABELS)
TEMPLATE = "m/chat_template.jinja"


def write(folder: Path, **settings: Any) -> list[Any]:
    """All that a command does with a causal model, for one prompt."""
    engine = TransformersGenerator(task=TASK, model=str(folder), **{"max_new_tokens": 3, **settings})
    engine.check("predict")
    engine.configure_model()
    return engine.answer(["a"], ["Rules."], ["A request about a door."], ["Text:"])["text"]


def translate(folder: Path, **settings: Any) -> list[Any]:
    """All that a command does with a translation model, for one text."""
    engine = TransformersTranslator(
        model=str(folder), **{"target_language": "hi", "max_new_tokens": 3, "num_beams": 1, **settings}
    )
    engine.check("predict")
    engine.configure_model()
    return engine.translate_or_say_why(["good"])["translation"]


def embed(folder: Path, **settings: Any) -> torch.Tensor:
    """All that a command does with a sentence encoder, for one text."""
    data = PoolDataModule(task=TASK, model=str(folder), pool=Source("nowhere"))
    module = EmbedderModule(TASK, str(folder), **settings)
    module.check("predict")
    data.check("predict")
    module.configure_model()
    inputs = data.tokenizer(["good day"], return_tensors="pt")
    with torch.no_grad():
        found: torch.Tensor = module(dict(inputs))
    return found


def config(**fields: Any) -> Harm:
    return with_json("m/config.json", **fields)


def tokens(**fields: Any) -> Harm:
    return with_json("m/generation_config.json", **fields)


def tokenizer(**fields: Any) -> Harm:
    return with_json("m/tokenizer_config.json", **fields)


def template(text: str | bytes) -> Harm:
    return with_text(TEMPLATE, text)


def without(*names: str) -> Harm:
    def harm(folder: Path) -> None:
        for name in names:
            (folder / "m" / name).unlink(missing_ok=True)

    return harm


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Harm:
    def harm(folder: Path) -> None:
        file = folder / "m/model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return harm


def nan(one: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(weight, float("nan")) for name, weight in one.items()}


def half(one: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(list(one.items())[: len(one) // 2])


def layers_beyond(one: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The first layer of a stack once more, as a layer 9."""
    again = {
        re.sub(r"(layers?)[.]0[.]", r"\1.9.", name): weight.clone() for name, weight in one.items() if ".0." in name
    }
    return {**again, **one}


def inside_a_layer(one: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A weight in a layer, as of another kind of network."""
    name = next(name for name in one if ".0." in name and name.endswith("weight"))
    return {**one, f"{name.partition('.0.')[0]}.0.gate.weight": torch.zeros(2)}


def more_words(folder: Path) -> None:
    """A tokenizer of more words than the network knows."""
    file = folder / "m/tokenizer.json"
    content = json.loads(file.read_text())
    if isinstance(content["model"]["vocab"], list):
        content["model"]["vocab"].append(["zz", -1.0])
    else:
        content["model"]["vocab"]["zz"] = 5000
    file.write_text(json.dumps(content))


# Harms of any folder of a model.
ANY: dict[str, Harm] = {
    "no config": without("config.json"),
    "config cut": with_text("m/config.json", '{"a'),
    "config a list": with_text("m/config.json", "[]"),
    "config not UTF-8": with_text("m/config.json", b"\xff\xfe"),
    "model_type unknown": config(model_type="nothing"),
    "no weights": without("model.safetensors"),
    "weights cut": lambda folder: (folder / "m/model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}"),
    "weights a text": with_text("m/model.safetensors", "version https://git-lfs.github.com/spec/v1\n"),
    "nan": weights(nan),
    "half of the weights": weights(half),
    "layers beyond its config": weights(layers_beyond),
    "a weight of another kind of layer": weights(inside_a_layer),
    "int8": weights(lambda one: {name: (weight * 10).to(torch.int8) for name, weight in one.items()}),
    "a million layers": all_of(config(num_hidden_layers=10**6), config(encoder_layers=10**6)),
    "model_max_length nan": tokenizer(model_max_length=float("nan")),
    "a link to nothing": lambda folder: (folder / "m/added_tokens.json").symlink_to("nowhere"),
    "no tokenizer": without("tokenizer.json"),
    "tokenizer cut": with_text("m/tokenizer.json", '{"version": "1.0", "mod'),
    "tokenizer {}": with_text("m/tokenizer.json", "{}"),
    "tokenizer_config a list": with_text("m/tokenizer_config.json", "[]"),
    "model_max_length a text": tokenizer(model_max_length="long"),
    "vocab smaller": config(vocab_size=8),
    "a code of its own that is missing": config(auto_map={"AutoConfig": "mine.Config"}, model_type="mine"),
}  # fmt: skip
GENERATE: dict[str, Harm] = {
    "template raises": template("{{ raise_exception('no') }}"),
    "template is no Jinja": template("{% for m in messages %}"),
    "template asks for what is not there": template("{{ nothing.at.all }}"),
    "template divides by zero": template("{{ 1 / 0 }}"),
    "template has an unknown filter": template("{{ messages|nothing }}"),
    "template has an unknown token": template("{{ no_token + messages[0].content }}"),
    "template includes another": template("{% include 'other' %}"),
    "template calls itself": template("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
    "template reaches for Python": template("{{ messages.__class__.__mro__ }}"),
    "template is empty": template(""),
    "template leaves the request out": template("Hello"),
    "template writes roles alone": template("{% for m in messages %}{{ m.role }}{% endfor %}"),
    "template wants a system role": template(
        "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}{{ messages[-1].content }}"
    ),
    "template of a long range": template("{% for i in range(1000000000) %}{% endfor %}{{ messages[0].content }}"),
    "template of ten million letters": template("{{ 'a' * 10000000 }}{{ messages[0].content }}"),
    "template of ten billion letters": template("{{ 'a' * 10000000000 }}{{ messages[0].content }}"),
    "template of a wide field": template("{{ '%3000000000d' % 1 }}{{ messages[0].content }}"),
    "template not UTF-8": template(b"\xff\xfe"),
    "template a number": all_of(without("chat_template.jinja"), tokenizer(chat_template=5)),
    "templates without a default": all_of(
        without("chat_template.jinja"), tokenizer(chat_template=[{"name": "tools", "template": "y"}])
    ),
    "tokenizer of more words": more_words,
    "no pad and no end token": tokenizer(eos_token=None, pad_token=None),
    "no end token": all_of(tokens(eos_token_id=None), config(eos_token_id=None), tokenizer(eos_token=None)),
    "end token a text": tokens(eos_token_id="x"),
    "generation_config cut": with_text("m/generation_config.json", '{"a'),
    "generation_config a list": with_text("m/generation_config.json", "[]"),
    "too few positions": config(max_position_embeddings=2),
    "heads do not divide": config(num_attention_heads=3),
    "layers more": config(num_hidden_layers=3),
    "a window of less than no token": config(sliding_window=-1),
    "a window of no token": config(sliding_window=0),
    "a chunk of no token": config(attention_chunk_size=0),
    "a window of half a token": config(sliding_window=0.5),
    "a window that its kind has not": config(sliding_window=3),
    "ten million wide": config(intermediate_size=10_000_000),
    "an encoder that it has not": config(is_encoder_decoder=True),
    "activation unknown": config(hidden_act="none"),
    "no output by name": config(return_dict=False),
    "norms of nan": config(rms_norm_eps=-1e3),
    "rope unknown": config(rope_scaling={"type": "x"}),
    "dtype unknown": config(dtype="x"),
    "pad token beyond the words": config(pad_token_id=5000),
    "an adapter of nothing": all_of(without("config.json"), with_text("m/adapter_config.json", "{}")),
}  # fmt: skip


def refused(folder: Path, model: Path, harm: Harm, use: Callable[[Path], object]) -> None:
    shutil.copytree(model, folder / "m")
    harm(folder)
    with pytest.raises(InputError) as caught:
        use(Path("m"))
    assert_line(str(caught.value), "m[: /]")


@pytest.mark.parametrize("name", [*ANY, *GENERATE])
def test_a_causal_model(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    refused(tmp_path, tiny_llama, {**ANY, **GENERATE}[name], write)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_turn_nan_after_the_first_tokens(tiny_llama: Path, temperature: float):
    engine = TransformersGenerator(task=TASK, model=str(tiny_llama), max_new_tokens=3, temperature=temperature)
    engine.check("predict")
    engine.configure_model()

    def turn_nan(_module: Any, _inputs: Any, output: Any) -> Any:
        output.logits = output.logits * float("nan")
        return output

    engine.network.register_forward_hook(turn_nan)
    with pytest.raises(InputError) as caught:
        engine.answer(["a"], ["Rules."], ["A request about a door."], ["Text:"])
    assert_line(str(caught.value), "logits hold nan or inf")


@pytest.mark.slow
def test_a_template_without_end_is_stopped(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    loop = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}{{ messages[0].content }}"
    began = time.monotonic()
    refused(tmp_path, tiny_llama, template(loop), write)
    assert time.monotonic() - began < 40


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_nllb", "tiny_bert"])
@pytest.mark.parametrize("name", ["model.extra_head.weight", "pooler.dense.weight", "mtp.layers.0.mlp.weight"])
def test_weights_beside_the_layers_are_no_hindrance(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(request.getfixturevalue(kind), tmp_path / "m")
    weights(lambda one: {name: torch.zeros(2), **one})(tmp_path)
    {"tiny_llama": write, "tiny_nllb": translate, "tiny_bert": embed}[kind](Path("m"))


def test_layers_that_foresee_tokens_are_no_hindrance_where_the_config_counts_them(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_llama, tmp_path / "m")
    n_layers = json.loads(Path("m/config.json").read_text())["num_hidden_layers"]
    weights(lambda one: {f"model.layers.{n_layers}.eh_proj.weight": torch.zeros(2), **one})(tmp_path)
    with pytest.raises(InputError, match="1 weights have no place in its network"):
        write(Path("m"))
    config(num_nextn_predict_layers=1)(tmp_path)
    write(Path("m"))


@pytest.mark.parametrize(
    "fields", [{"num_beams": 4}, {"min_length": 10**6}, {"repetition_penalty": 9.0}, {"num_beams": 0}]
)
def test_how_a_model_would_sample_by_itself_changes_no_text(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_llama, tmp_path / "m")
    before = write(Path("m"), max_new_tokens=12)
    tokens(**fields)(tmp_path)
    assert write(Path("m"), max_new_tokens=12) == before


def test_a_prompt_that_is_too_long(tiny_llama: Path):
    with pytest.raises(InputError, match=r"1023 new tokens are more than the 1024 .*; lower --model.max_new_tokens"):
        write(tiny_llama, max_new_tokens=1023)
    with pytest.raises(InputError, match="100000 new tokens are more than the 1024"):
        write(tiny_llama, max_new_tokens=100_000)


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_nllb", "tiny_classifier"])
def test_a_model_that_does_not_write_on(request: pytest.FixtureRequest, model: str):
    with pytest.raises(InputError) as caught:
        write(request.getfixturevalue(model))
    assert_line(str(caught.value), "model")


TRANSLATE: dict[str, Harm] = {
    "tokenizer of more words": more_words,
    "no decoder": config(is_encoder_decoder=False),
    "no output by name": config(return_dict=False),
    "heads do not divide": config(encoder_attention_heads=3),
    "layers more": config(decoder_layers=2),
    "a setting of another type": config(scale_embedding="x"),
    "pad token beyond the words": config(pad_token_id=5000),
    "an adapter of nothing": all_of(without("config.json"), with_text("m/adapter_config.json", "{}")),
    "an adapter without its base": all_of(
        without("config.json"), with_text("m/adapter_config.json", '{"base_model_name_or_path": "runs/m[: /]/no"}')
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ANY, *TRANSLATE])
def test_a_translation_model(tmp_path: Path, tiny_nllb: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    refused(tmp_path, tiny_nllb, {**ANY, **TRANSLATE}[name], translate)


@pytest.mark.parametrize("settings", [
    {"target_language": "xx"}, {"target_language": "sw"}, {"target_language": "not a code"}, {"source_language": ""},
    {"target_code": "xx_YY"}, {"source_code": "xx_YY"},
])  # fmt: skip
def test_a_language_that_a_translation_model_does_not_know(tiny_nllb: Path, settings: dict[str, Any]):
    with pytest.raises(InputError) as caught:
        translate(tiny_nllb, **settings)
    assert_line(str(caught.value), "language|code")


@pytest.mark.parametrize(("source", "target"), [("en", "en"), ("en", "en-Latn"), ("hi-Latn", "hi-Latn")])
def test_a_translation_into_the_same_language_is_refused(source: str, target: str):
    with pytest.raises(InputError) as caught:
        LexiconTranslator(lexicon=[Source("words.tsv")], source_language=source, target_language=target)
    assert_line(str(caught.value), f"target_language is {target}, expected another language or script than")


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_llama", "tiny_classifier"])
def test_a_model_that_does_not_translate(request: pytest.FixtureRequest, model: str):
    with pytest.raises(InputError) as caught:
        translate(request.getfixturevalue(model))
    assert_line(str(caught.value), "expected one that writes text from text")


def test_a_text_that_is_longer_than_the_positions_is_cut_and_marked(tiny_nllb: Path):
    engine = TransformersTranslator(
        model=str(tiny_nllb), target_language="hi", max_new_tokens=3, num_beams=1, max_length=5000
    )
    engine.configure_model()
    found = engine.translate(["good " * 100, "good"])
    assert engine.is_cut(["good " * 100, "good"]) == [True, False]
    assert found["finish"][0] == "length"


MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def modules(content: Any, pooling: str | None = None) -> Harm:
    """What sentence-transformers reads beside the network."""
    text = content if isinstance(content, str) else json.dumps(content)
    files = [with_text("m/modules.json", text)]
    return all_of(*files, *([with_text("m/1_Pooling/config.json", pooling)] if pooling is not None else []))


POOLING = '{"word_embedding_dimension": 16, "pooling_mode_mean_tokens": true}'
EMBED: dict[str, Harm] = {
    "types of no token": config(type_vocab_size=0),
    "modules cut": modules("[{"),
    "modules a map": modules({}),
    "modules none": modules([]),
    "modules of another library": modules([{**MODULES[0], "type": "os.system"}]),
    "pooling missing": modules(MODULES),
    "pooling cut": modules(MODULES, "{"),
    "the network alone": modules(MODULES[:1]),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ANY, *EMBED])
def test_a_sentence_encoder(tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    refused(tmp_path, tiny_bert, {**ANY, **EMBED}[name], embed)


def test_the_encoder_is_right_without_these_faults(
    tmp_path: Path, tiny_bert: Path, tiny_nllb: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_bert, tmp_path / "m")
    modules(MODULES, POOLING)(tmp_path)
    assert embed(Path("m")).shape == (1, 16)
    assert len(translate(tiny_nllb)) == len(write(tiny_llama)) == 1
