"""The ctranslate2 engine writes what the transformers engine writes, and says what is wrong with a folder."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import QUIET, Command, Files, labelled, write_jsonl
from translators import convert, save_nllb

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.models.fingerprints import model_fingerprint
from labelbridge.modules import CTranslate2Translator, TransformersTranslator

pytest.importorskip("ctranslate2")
TEXTS = [row["text"] for row in labelled(60, 21)]


@pytest.fixture(scope="session")
def tiny_nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_nllb(tmp_path_factory.mktemp("models") / "nllb")


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory, tiny_nllb: Path) -> Path:
    return convert(tiny_nllb, tmp_path_factory.mktemp("models") / "ct2")


def engine(folder: Path, **settings: object) -> CTranslate2Translator:
    one = CTranslate2Translator(model=str(folder), **{"target_language": "hi", "num_beams": 1, **settings})
    one.check("predict")
    one.load(torch.device("cpu"))
    return one


def peer(folder: Path, **settings: object) -> TransformersTranslator:
    one = TransformersTranslator(model=str(folder), **{"target_language": "hi", "num_beams": 1, **settings})
    one.check("predict")
    one.configure_model()
    return one


@pytest.mark.slow
def test_greedy_float32_writes_the_same_tokens_as_transformers(tiny_nllb: Path, converted: Path):
    found = engine(converted, max_new_tokens=40).translate(TEXTS)
    assert found == peer(tiny_nllb, max_new_tokens=40).translate(TEXTS)
    assert found["finish"].count("stop") > 50
    assert len(set(found["translation"])) > 5


def test_an_unknown_piece_is_written_out(converted: Path):
    made = engine(converted)
    (text,) = made.decode_tokens(["good"], [["hin_Deva", "<unk>", "</s>"]])
    assert text == "<unk>"


@pytest.mark.parametrize("limit", [1, 2, 4, 6])
def test_a_translation_is_cut_and_marked_where_transformers_cuts_it(tiny_nllb: Path, converted: Path, limit: int):
    found = engine(converted, max_new_tokens=limit).translate(TEXTS)
    assert found == peer(tiny_nllb, max_new_tokens=limit).translate(TEXTS)
    assert "length" in found["finish"]
    assert max(found["n_tokens"]) <= limit


def test_an_end_that_the_model_forces_at_the_limit_does_not_hide_the_cut(tmp_path: Path, tiny_nllb: Path):
    forcing = shutil.copytree(tiny_nllb, tmp_path / "forcing")
    config = json.loads((forcing / "generation_config.json").read_text())
    # As OPUS-MT and mBART say.
    (forcing / "generation_config.json").write_text(json.dumps({**config, "forced_eos_token_id": 2}))
    assert peer(forcing, max_new_tokens=4).translate(TEXTS) == peer(tiny_nllb, max_new_tokens=4).translate(TEXTS)


def test_a_source_that_is_too_long_is_cut_and_marked(tiny_nllb: Path, converted: Path):
    found = engine(converted, max_length=7).translate(TEXTS)
    assert found == peer(tiny_nllb, max_length=7).translate(TEXTS)
    assert {"length", "stop"} == set(found["finish"])


@pytest.mark.slow
def test_beams_agree_with_transformers_too(tiny_nllb: Path, converted: Path):
    ours, theirs = (make(folder, num_beams=4).translate(TEXTS)["translation"]
                    for make, folder in ((engine, converted), (peer, tiny_nllb)))  # fmt: skip
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) > 0.95 * len(TEXTS)


def test_a_batch_translated_in_pieces_at_once_is_the_same(converted: Path):
    assert engine(converted, inter_threads=2, intra_threads=1).translate(TEXTS) == engine(converted).translate(TEXTS)


def test_no_ngram_comes_twice_where_that_is_banned(tiny_nllb: Path, converted: Path):
    found = engine(converted, no_repeat_ngram_size=2, max_new_tokens=40).translate(TEXTS)
    assert found == peer(tiny_nllb, no_repeat_ngram_size=2, max_new_tokens=40).translate(TEXTS)
    assert found != engine(converted).translate(TEXTS)


def test_the_tokenizer_may_lie_elsewhere(tmp_path: Path, tiny_nllb: Path, converted: Path):
    bare = convert(tiny_nllb, tmp_path / "bare", tokenizer=False)
    with pytest.raises(InputError, match=r"bare: no tokenizer beside model.bin; .*--model.tokenizer"):
        engine(bare)
    elsewhere = engine(bare, tokenizer=str(tiny_nllb))
    assert elsewhere.translate(TEXTS) == engine(converted).translate(TEXTS)
    assert elsewhere.identity("predict")["tokenizer"].startswith("sha256:")


def test_int8_weights_are_computed_as_such(tmp_path: Path, tiny_nllb: Path):
    folder = convert(tiny_nllb, tmp_path / "int8", quantization="int8")
    assert engine(folder, compute_type="int8").network.compute_type.startswith("int8")
    assert engine(folder, compute_type="float32").network.compute_type == "float32"


@pytest.mark.parametrize("name", ["model.bin", "shared_vocabulary.json", "tokenizer.json", "config.json"])
def test_the_fingerprint_covers_every_file_that_matters(tmp_path: Path, converted: Path, name: str):
    copy = shutil.copytree(converted, tmp_path / "copy")
    before = model_fingerprint(str(copy))
    assert before == model_fingerprint(str(converted))
    with (copy / name).open("ab") as stream:
        stream.write(b"\n")
    assert model_fingerprint(str(copy)) != before


def test_an_unconverted_model_is_refused_with_the_command_that_converts_it(tiny_nllb: Path):
    command = (
        f"ct2-transformers-converter --model {tiny_nllb} --output_dir {tiny_nllb}-ct2 --copy_files "
        "generation_config.json tokenizer.json tokenizer_config.json"
    )
    with pytest.raises(InputError, match=f'no model.bin, .* convert it with "{command}"'):
        engine(tiny_nllb)


@pytest.mark.slow
def test_the_command_in_that_error_works(tmp_path: Path, tiny_nllb: Path, converted: Path):
    import subprocess

    from labelbridge.modules.ctranslate2_translator import conversion_command

    copy = shutil.copytree(tiny_nllb, tmp_path / "nllb")
    words = conversion_command(str(copy)).split()
    program = Path(sys.executable).parent / words[0]
    subprocess.run([program, *words[1:]], check=True, capture_output=True)
    assert engine(Path(f"{copy}-ct2")).translate(TEXTS) == engine(converted).translate(TEXTS)


def test_a_hub_model_is_refused_with_the_command_that_converts_it():
    command = "ct2-transformers-converter --model facebook/nllb-200-distilled-600M --output_dir nllb-200-distilled-600M"
    with pytest.raises(InputError, match=command):
        engine(Path("facebook/nllb-200-distilled-600M"))


def test_a_missing_folder_is_named():
    with pytest.raises(InputError, match=r"model /no/such/folder: no such folder; expected a converted model's"):
        engine(Path("/no/such/folder"))


def test_a_language_without_a_token_is_named(converted: Path):
    with pytest.raises(InputError, match=r"no token for the language swh_Latn; .*--model.target_code"):
        engine(converted, target_language="sw")


def test_a_broken_model_is_named(tmp_path: Path, converted: Path):
    copy = shutil.copytree(converted, tmp_path / "copy")
    (copy / "model.bin").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"copy: CTranslate2 cannot load it \(.*\); convert it anew"):
        engine(copy)


def test_a_device_that_it_cannot_use_is_named(converted: Path):
    one = CTranslate2Translator(model=str(converted), target_language="hi")
    with pytest.raises(InputError, match=r"trainer.accelerator: CTranslate2 runs on cpu and cuda, not on mps"):
        one.load(torch.device("mps"))


@pytest.mark.parametrize("settings", [{"inter_threads": 0}, {"intra_threads": -1}, {"num_beams": 0}])
def test_numbers_out_of_range_are_refused(settings: dict):
    with pytest.raises(InputError, match="expected (0|1) <="):
        CTranslate2Translator(model="x", target_language="hi", **settings)


def test_a_missing_package_is_named_with_its_extra(converted: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(InputError, match=r"ctranslate2 is not installed; pip install 'labelbridge\[translation\]'"):
        engine(converted)


def words(name: str, folder: Path, rows: Path, out: str, *more: object) -> list[object]:
    return [
        "predict", "--config", "translate.yaml", "--model", name, f"--model.model={folder}", "--model.num_beams=1",
        "--model.target_language=hi", f"--data.rows.path={rows}", '--data.gates={"repetition": null}', f"--out={out}",
        *QUIET, *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_both_engines_write_the_same_rows_through_the_command_line(
    cli: Command, files: Files, tiny_nllb: Path, converted: Path
):
    tables = []
    for name, folder in (("CTranslate2Translator", converted), ("TransformersTranslator", tiny_nllb)):
        outcome = cli(*words(name, folder, files.gold, name))
        assert outcome.code == 0, outcome.err
        tables.append([artifacts.read(Path(name) / part).table.to_pylist() for part in ("", "_rejected")])
    assert tables[0] == tables[1]
    kept, rejected = tables[0]
    assert len(kept) + len(rejected) == 37
    assert {row["label"] for row in kept} == {"negative", "neutral", "positive"}
    manifest = json.loads(Path("CTranslate2Translator/_manifest.json").read_text())
    assert manifest["inputs"]["model"]["fingerprint"] == model_fingerprint(str(converted))


@pytest.mark.slow
def test_an_error_of_the_engine_is_one_line_on_the_command_line(cli: Command, files: Files, tiny_nllb: Path):
    outcome = cli(*words("CTranslate2Translator", tiny_nllb, files.gold, "out"))
    assert outcome.code == 2
    assert "ct2-transformers-converter --model" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not Path("out").exists()


@pytest.mark.slow
def test_two_processes_write_the_same_rows_as_one(cli: Command, files: Files, converted: Path):
    import subprocess

    from conftest import PROJECT

    rows = write_jsonl(Path("rows.jsonl"), labelled(80, 5)).resolve()
    budget = "--data.tokens_per_batch=64"
    assert cli(*words("CTranslate2Translator", converted, rows, "one", budget)).code == 0
    two = words(
        "CTranslate2Translator", converted, rows, "two", budget, "--trainer.devices=2", "--trainer.strategy=ddp"
    )
    done = subprocess.run(
        [sys.executable, PROJECT / "main.py", *map(str, two)], capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert artifacts.read(Path("one")).table.to_pylist() == artifacts.read(Path("two")).table.to_pylist()
