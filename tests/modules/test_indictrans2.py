"""IndicTrans2 on a tiny model of its shape: layout of the release, tags, pieces, placeholders."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import QUIET, Command, Files, labelled
from translators import pairs, save_indictrans2

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.models.fingerprints import model_fingerprint
from labelbridge.modules import IndicTrans2Translator

pytest.importorskip("ctranslate2")
pytestmark = pytest.mark.skipif(importlib.util.find_spec("IndicTransToolkit") is None, reason="extra: indic")
LANGUAGES = ["eng_Latn", "hin_Deva", "mar_Deva", "urd_Arab"]


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """English into Hindi, trained until it ends by itself."""
    folder = tmp_path_factory.mktemp("indictrans2") / "ct2_fp16_model"
    network, source, target = save_indictrans2(folder, pairs(300, 31), LANGUAGES, steps=120)
    return SimpleNamespace(folder=folder, network=network, source=source, target=target)


def engine(folder: Path, source: str = "en", target: str = "hi", **settings: Any) -> IndicTrans2Translator:
    one = IndicTrans2Translator(
        model=str(folder), source_language=source, target_language=target, num_beams=1, **settings
    )
    one.check("predict")
    one.load(torch.device("cpu"))
    return one


class Echo:
    """Stands in for the weights: it writes the source's pieces, without tags, and fails on a word."""

    def __init__(self, fails_on: str = "\0") -> None:
        self.fails_on = fails_on

    def translate_batch(self, sources: list[list[str]], **_: Any) -> list[Any]:
        if any(self.fails_on in "".join(pieces).replace("▁", " ") for pieces in sources):
            raise RuntimeError("out of memory")
        return [SimpleNamespace(hypotheses=[[*pieces[2:], "</s>"]]) for pieces in sources]


@pytest.mark.slow
def test_the_release_lays_its_files_out_like_this(release: SimpleNamespace):
    assert {file.name for file in release.folder.iterdir()} == {
        "config.json", "model.bin", "source_vocabulary.json", "target_vocabulary.json", "vocab"
    }  # fmt: skip


@pytest.mark.slow
def test_it_writes_what_the_same_weights_write_in_torch(release: SimpleNamespace):
    texts = [row["text"] for row in labelled(24, 33)]
    one = engine(release.folder, max_new_tokens=40)
    found = one.translate(texts)
    numbers = {token: number for number, token in enumerate(release.source)}
    for text, own, count in zip(texts, found["translation"], found["n_tokens"], strict=True):
        pieces = [*LANGUAGES[:2], *one.tokenizer.encode(text, out_type=str), "</s>"]
        inputs = torch.tensor([[numbers.get(piece, 3) for piece in pieces]])
        written = release.network.generate(
            inputs,
            num_beams=1,
            do_sample=False,
            min_new_tokens=1,
            max_new_tokens=40,  # CTranslate2 writes no empty text
        )[0, 1:].tolist()
        tokens = [release.target[number] for number in written[: written.index(2)]]
        assert own == "".join(tokens).replace("▁", " ").strip()
        assert count == len(tokens)
    assert set(found["finish"]) == {"stop"}


@pytest.mark.parametrize(("source", "target"), [("en", "hi"), ("en", "mr"), ("en", "ur"), ("hi", "en"), ("ur", "en")])
def test_both_tags_come_first(release: SimpleNamespace, source: str, target: str):
    one = engine(release.folder, source, target)
    (pieces,), cut = one.encode(["good"])
    assert pieces[:2] == [one.source.flores, one.target.flores]
    assert cut == [False]


def test_a_source_that_is_too_long_is_cut_and_marked(release: SimpleNamespace):
    one = engine(release.folder, max_length=10)
    pieces, cut = one.encode(["good " * 50, "good"])
    assert len(pieces[0]) == 9  # and the end, which CTranslate2 adds
    assert cut == [True, False]
    assert one.translate(["good " * 50, "good"])["finish"] == ["length", "stop"]


def test_every_text_keeps_its_own_addresses_when_another_fails(release: SimpleNamespace):
    one = engine(release.folder)
    one.network = Echo(fails_on="broken")
    texts = [f"good box https://site{number}.org/a and {number}{number}/05/2023" for number in range(1, 6)]
    texts.insert(2, "a broken chair https://broken.org/b")
    found = one.translate_or_say_why(texts)
    assert found["translation"] == [None if "broken" in text else text for text in texts]
    assert found["error"][2] == "RuntimeError: out of memory"
    assert one.translate_or_say_why(texts[3:])["translation"] == texts[3:]


def test_a_batch_that_fails_half_way_leaves_nothing_behind(release: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    one = engine(release.folder)
    one.network = Echo()
    decode = one.decode_tokens
    calls = []

    def failing(texts: list[str], written: list[list[str]]) -> list[str]:
        calls.append(len(texts))
        if len(calls) == 1:
            raise RuntimeError("once")
        return decode(texts, written)

    monkeypatch.setattr(one, "decode_tokens", failing)
    texts = ["see https://one.org/a", "good", "see https://two.org/b", "write to c@three.org"]
    assert one.translate_or_say_why(texts)["translation"] == texts
    assert calls == [4, 2, 2]


def test_an_empty_text_stays_empty(release: SimpleNamespace):
    one = engine(release.folder)
    one.network = Echo()
    assert one.translate(["", "good"])["translation"] == ["", "good"]


def test_the_pieces_may_lie_elsewhere(tmp_path: Path, release: SimpleNamespace):
    bare = shutil.copytree(release.folder, tmp_path / "bare")
    (bare / "vocab").rename(tmp_path / "pieces")
    with pytest.raises(InputError, match=r"no .*vocab/model.SRC; give the folder of model.SRC with --model.tokenizer"):
        engine(bare)
    assert engine(bare, tokenizer=str(tmp_path / "pieces")).encode(["good"]) == engine(release.folder).encode(["good"])


def test_vocabularies_of_an_older_converter_are_read(tmp_path: Path, release: SimpleNamespace):
    old = shutil.copytree(release.folder, tmp_path / "old")
    for name, tokens in (("source", release.source), ("target", release.target)):
        (old / f"{name}_vocabulary.json").unlink()
        (old / f"{name}_vocabulary.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    assert engine(old).translate(["good box"]) == engine(release.folder).translate(["good box"])


@pytest.mark.parametrize("name", ["vocab/model.SRC", "source_vocabulary.json", "target_vocabulary.json", "model.bin"])
def test_the_fingerprint_covers_every_file_that_matters(tmp_path: Path, release: SimpleNamespace, name: str):
    copy = shutil.copytree(release.folder, tmp_path / "copy")
    before = model_fingerprint(str(copy))
    with (copy / name).open("ab") as stream:
        stream.write(b"\n")
    assert model_fingerprint(str(copy)) != before


def test_a_language_that_the_model_lacks_is_named(release: SimpleNamespace):
    with pytest.raises(InputError, match=r"no token for the language tam_Taml; .*--model.target_code"):
        engine(release.folder, target="ta")
    with pytest.raises(InputError, match=r"no token for the language hi-Latn"):
        engine(release.folder, target="hi-Latn")


def test_another_folder_is_refused(tmp_path: Path, release: SimpleNamespace):
    with pytest.raises(InputError, match=r"no model.bin; expected the folder ct2_fp16_model or ct2_int8_model"):
        engine(tmp_path)
    copy = shutil.copytree(release.folder, tmp_path / "copy")
    (copy / "vocab/model.SRC").write_bytes(b"no pieces")
    with pytest.raises(InputError, match=r"model.SRC: not a SentencePiece model .* take it from the release"):
        engine(copy)


def test_a_missing_package_is_named_with_its_extra(release: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(InputError, match=r"sentencepiece is not installed; pip install 'labelbridge\[indic\]'"):
        engine(release.folder)


@pytest.mark.slow
def test_rows_are_translated_through_the_command_line(cli: Command, files: Files, release: SimpleNamespace):
    outcome = cli(
        "predict", "--config", "translate.yaml", "--model", "IndicTrans2Translator", f"--model.model={release.folder}",
        "--model.target_language=hi", f"--data.rows.path={files.gold}", '--data.gates={"repetition": null}', "--out=out",
        *QUIET,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    kept, rejected = (artifacts.read(Path("out") / part).table for part in ("", "_rejected"))
    assert kept.num_rows + rejected.num_rows == 37
    assert kept.num_rows > 20
    assert set(kept["lang"].to_pylist()) == {"hi"}
