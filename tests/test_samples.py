"""The bundled sample is what its page says, and its finished artifacts are what the code makes."""

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from conftest import LABELS, PROJECT, Command

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.languages import language
from labelbridge.lightning_app.data.sources import Source
from labelbridge.lightning_app.translation.lexicon import read_lexicon, replace_words

SAMPLES = PROJECT / "samples"
FILES = sorted(path.relative_to(SAMPLES) for path in SAMPLES.rglob("*.jsonl"))


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (SAMPLES / path).read_text(encoding="utf-8").splitlines()]


TEXTS = [path for path in FILES if path.parts[0] != "codemix" and "raw" not in path.parts]


@pytest.mark.parametrize("path", TEXTS, ids=str)
def test_texts_are_whole_and_stand_once(path: Path):
    found = rows(path)
    texts = [(row.get("text"), row.get("premise"), row.get("hypothesis")) for row in found]
    assert len(set(texts)) == len(texts)
    assert all(value and value == value.strip() for row in found for value in row.values())


@pytest.mark.parametrize("path", [path for path in TEXTS if "unlabelled" not in path.parts], ids=str)
def test_classes_are_balanced_enough_to_learn_from(path: Path):
    labels = Counter(row.get("label") or row["prompt_label"] for row in rows(path))
    expected = LABELS if path.parts[0] == "sentiment" else ["entailment", "neutral", "contradiction"]
    assert set(labels) == set(expected)
    assert min(labels.values()) > 0.2 * sum(labels.values())


def test_the_samples_page_tells_the_number_of_rows():
    page = (SAMPLES / "README.md").read_text(encoding="utf-8")
    count = {str(path.with_suffix("")): len(rows(path)) for path in FILES}
    for task, targets in (("sentiment", ("hi", "mr", "sw", "ur")), ("nli", ("hi", "sw"))):
        gold = " / ".join(
            str(count[f"{task}/gold/{name}"]) for name in ("train", "dev", "test") if f"{task}/gold/{name}" in count
        )
        assert len({count[f"{task}/targets/{name}"] for name in targets}) == 1
        if task == "sentiment":
            assert f"| {count['sentiment/unlabelled/sw']} | Swahili" in page
        for number in (gold, str(count[f"{task}/pool/train"]), f"{count[f'{task}/targets/hi']} each"):
            assert number in page, (task, number)


def test_test_rows_are_neither_trained_on_nor_looked_at():
    looked_at = ("gold/train", "pool/train", "unlabelled/sw")
    train = {row["text"] for name in looked_at for row in rows(Path(f"sentiment/{name}.jsonl"))}
    for name in ("gold/dev", "gold/test", *(f"targets/{code}" for code in ("hi", "mr", "sw", "ur"))):
        assert not train & {row["text"] for row in rows(Path(f"sentiment/{name}.jsonl"))}


def test_sentence_pairs_are_whole_and_stand_once():
    pairs = [row for name in ("train", "dev", "test") for row in rows(Path(f"codemix/{name}.jsonl"))]
    for column in ("id", "source", "target"):
        values = [row[column] for row in pairs]
        assert len(set(values)) == len(values) == 60
        assert all(value == value.strip() for value in values)
    assert all(row["target"].isascii() and not row["source"].isascii() for row in pairs)


def test_no_premise_is_in_train_and_dev():
    train, dev = ({row["premise"] for row in rows(Path(f"nli/gold/{name}.jsonl"))} for name in ("train", "dev"))
    assert not train & dev


def test_the_bundled_selection_is_what_select_makes(cli: Command):
    bundled = artifacts.read(SAMPLES / "sentiment/selection", "select")
    outcome = cli(
        "select", "--config", "select.yaml", "--pseudolabels", "samples/sentiment/pseudolabels", "--out=again"
    )
    assert outcome.code == 0, outcome.err
    assert artifacts.read_manifest(Path("again")).fingerprint == bundled.manifest.fingerprint
    assert bundled.manifest.lineage["pool"] == artifacts.read_manifest(Path("again")).lineage["pool"]


PARTS = ("adj", "adv", "n", "v", "prep", "pron", "conj", "det", "num", "interj")


@pytest.mark.parametrize("code", ["hi", "mr", "sw"])
def test_dictionaries_are_whole_sorted_and_in_their_script(code: str):
    path = SAMPLES / f"lexicons/en-{code}.tsv"
    header, *lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    assert header == ["en", "pos", code]
    heads = [head for head, _, _ in lines]
    assert heads == sorted(heads)
    assert all(head == head.lower() for head in heads)
    assert len(set(map(tuple, lines))) == len(lines)
    assert all(cell and cell == unicodedata.normalize("NFC", cell.strip()) for line in lines for cell in line)
    assert {part for _, part, _ in lines} == set(PARTS)
    texts = [text for _, _, text in lines]
    assert {language(code).share_of_script(text) for text in texts if text != "-"} == {1.0}
    found = read_lexicon([Source(path=str(path))], "en", code)
    assert not found.dropped
    assert len(found.entries) > 900


@pytest.mark.parametrize("code", ["hi", "mr", "sw"])
def test_dictionaries_cover_most_words_of_the_sample(code: str):
    lemmatizer = pytest.importorskip("simplemma").Lemmatizer()
    words = read_lexicon([Source(path=str(SAMPLES / f"lexicons/en-{code}.tsv"))], "en", code)
    for name, share in {"gold/train": 0.82, "gold/dev": 0.82, "pool/train": 0.75}.items():  # what gets translated
        made = [
            replace_words(row["text"], words, lemma=lambda word: lemmatizer.lemmatize(word, lang="en"))
            for row in rows(Path(f"sentiment/{name}.jsonl"))
        ]
        assert sum(one.known for one in made) > share * sum(one.words for one in made), name
        assert all(one.text == one.text.strip() and "  " not in one.text for one in made)


@pytest.mark.slow
def test_a_student_can_be_trained_at_once(cli: Command):
    words = ("--trainer.enable_progress_bar=false", "--trainer.logger=false", "--trainer.max_epochs=1")
    outcome = cli("fit", "--config", "student.yaml", *words)
    assert outcome.code == 0, outcome.err
    assert Path("runs/student/model/model.safetensors").exists()


def test_cleaning_the_raw_sample_gives_the_pool_back(cli: Command):
    """But for a few near repeats, and texts that the raw sample repeats first."""
    assert cli("clean", "--config", "clean.yaml", "--out=pool").code == 0
    cleaned = {row["text"] for row in artifacts.read(Path("pool")).table.to_pylist()}
    pool = {row["text"] for row in rows(Path("sentiment/pool/train.jsonl"))}
    assert len(cleaned & pool) > 0.93 * len(pool)
    reasons = set(artifacts.read(Path("pool/_rejected")).table["reason"].to_pylist())
    assert reasons >= {"refusal", "cut", "failed", "duplicate", "near duplicate", "language"}
