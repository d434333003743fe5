"""Tokenizers and networks that do not fit together are refused before any row is read."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import QUIET, Command, Files, write_jsonl
from transformers import AutoConfig, AutoTokenizer

from labelbridge.datamodules import GoldDataModule
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.models.loading import check_together, load_tokenizer, loading, longest_sequence


def edited(folder: Path, file: str, **changes: object) -> Path:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.fixture
def bert(tiny_bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bert, tmp_path / "bert"))


@pytest.fixture
def xlmr(tiny_xlmr: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_xlmr, tmp_path / "xlmr"))


def test_a_folder_without_a_tokenizer_is_refused(bert: Path):
    """The library would make one up that knows no words."""
    (bert / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="no tokenizer in its folder, expected tokenizer.json"):
        load_tokenizer(str(bert))
    (bert / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    (bert / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="its tokenizer (knows no words|cannot be loaded)"):
        load_tokenizer(str(bert))


@pytest.mark.parametrize("content", ["[]", "{", '{"tokenizer_class": 5}'])
def test_a_tokenizer_that_cannot_be_read_is_one_line(bert: Path, content: str):
    (bert / "tokenizer_config.json").write_text(content)
    (bert / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=r"its tokenizer cannot be loaded .*; save it into the same folder") as caught:
        load_tokenizer(str(bert))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 20}, r"a token '\w+' with number \d+, but its network knows 20 tokens only"),
        ({"type_vocab_size": 1}, "marks the second text of a pair with 1, but its network knows 1 type"),
    ],
)
def test_tokens_that_the_network_lacks(bert: Path, changes: dict[str, int], message: str):
    config = AutoConfig.from_pretrained(edited(bert, "config.json", **changes))
    marks = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = AutoTokenizer.from_pretrained(edited(bert, "tokenizer_config.json", model_input_names=marks))
    with pytest.raises(InputError, match=message):
        check_together(tokenizer, config, "m")


def test_another_padding_token_matters_where_the_network_looks_for_it(bert: Path, xlmr: Path):
    for folder, matters in ((bert, False), (xlmr, True)):
        config = AutoConfig.from_pretrained(edited(folder, "config.json", pad_token_id=3))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if matters:
            with pytest.raises(InputError, match=r"its tokenizer pads with token 1 .<pad>., its network expects 3"):
                check_together(tokenizer, config, "m")
        else:
            check_together(tokenizer, config, "m")


def test_positions_are_counted_from_the_padding_token_where_the_network_does(bert: Path, xlmr: Path):
    assert longest_sequence(AutoConfig.from_pretrained(bert)) == 64
    assert longest_sequence(AutoConfig.from_pretrained(xlmr)) == 64  # of 66


def gold_of(model: Path, files: Files, task: Task, **settings: object) -> GoldDataModule:
    from labelbridge.lightning_app.data.sources import Source

    sources = {"train": Source(path=str(files.gold)), "dev": Source(path=str(files.dev))}
    return GoldDataModule(task=task, model=str(model), **sources, **settings)


@pytest.mark.parametrize("stated", [10**30, 500])
def test_rows_are_cut_to_what_the_network_takes(bert: Path, files: Files, task: Task, stated: int):
    edited(bert, "tokenizer_config.json", model_max_length=stated)
    write_jsonl(files.gold, [{"text": "very " * 400, "label": "neutral"}, {"text": "a", "label": "positive"}])
    data = gold_of(bert, files, task, max_length=256)
    data.setup("fit")
    assert int(data.encoded["train"].lengths.max()) == 64


def test_a_model_that_takes_no_tokens_is_refused(bert: Path, files: Files, task: Task):
    edited(bert, "tokenizer_config.json", model_max_length=0)
    with pytest.raises(InputError, match="takes 0 tokens, expected at least 4; check model_max_length"):
        gold_of(bert, files, task).check("fit")


def test_special_tokens_in_a_text_are_text(bert: Path, files: Files, task: Task):
    write_jsonl(files.gold, [{"text": "good [SEP] [PAD] good [CLS]", "label": "neutral"}])
    data = gold_of(bert, files, task)
    data.setup("fit")
    ids = data.encoded["train"].features["input_ids"].tolist()
    assert (ids[0], ids[-1]) == (2, 3)
    assert not {0, 2, 3} & set(ids[1:-1])


def test_a_decoder_takes_its_tokenizers_padding(bert: Path, cli: Command, files: Files):
    """GPT-2, Llama and Qwen classify by the last token before the padding."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=2, n_positions=64, bos_token_id=2, eos_token_id=3)
    assert config.pad_token_id is None
    GPT2ForSequenceClassification(config).save_pretrained(bert)
    gold = (f"--data.train.path={files.gold}", f"--data.dev.path={files.dev}", "--trainer.max_steps=1")
    done = cli("fit", "--config", "teacher.yaml", f"--model.model={bert}", *gold, *QUIET, "--out=run")
    assert done.code == 0, done.err
    assert json.loads((files.folder / "run/model/config.json").read_text())["pad_token_id"] == 0


def test_a_fit_ends_in_one_line_where_tokenizer_and_network_do_not_fit(bert: Path, cli: Command, files: Files):
    edited(bert, "config.json", vocab_size=20)
    gold = (f"--data.train.path={files.gold}", f"--data.dev.path={files.dev}")
    done = cli("fit", "--config", "teacher.yaml", f"--model.model={bert}", *gold, *QUIET, "--out=run")
    assert done.code == 2
    assert done.err.count("error:") == 1
    assert "but its network knows 20 tokens only" in done.err


def test_whatever_a_library_raises_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("labelbridge.lightning_app.models.locate.has_cached", lambda _: True)
    for raised in (KeyError("a"), RuntimeError("b\nc" * 500), AssertionError(), OSError("d")):
        refusal = pytest.raises(
            InputError, match=r"^model m: its head cannot be loaded \(.*\); the Hub cannot be reached; do this$"
        )
        with refusal as caught, loading("m", "its head", "do this"):
            raise raised
        assert len(str(caught.value)) < 250
