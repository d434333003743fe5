"""Sentiment richness of selections, by a small file in SentiWordNet's format."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from test_page import reference, write_chain

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation.pool_view import pool_views
from labelbridge.lightning_app.evaluation.predictions import read
from labelbridge.lightning_app.evaluation.report import make_report
from labelbridge.lightning_app.evaluation.richness import nltk_tagger, read_lexicon, richness, with_richness

OFFICIAL = """# SentiWordNet v3.0
# POS\tID\tPosScore\tNegScore\tSynsetTerms\tGloss
a\t00001740\t0.75\t0\tgood#1\thaving desirable qualities; "any good reason"
s\t00001741\t0.25\t0.25\tgood#2 dull#1\tmixed
n\t00001742\t0.5\t0\tgood#1\tmoral excellence
v\t00001743\t0\t0.5\tbreak#1\tbecome separated
\t\t\t\t\t
"""


@pytest.fixture
def sentiwordnet(tmp_path: Path) -> str:
    file = tmp_path / "SentiWordNet_3.0.0.txt"
    file.write_text(OFFICIAL, encoding="utf-8")
    return str(file)


def all_of(part: str) -> Callable[[list[str]], list[str | None]]:
    return lambda words: [part] * len(words)


def test_a_word_has_the_mean_of_its_senses_of_its_part_of_speech(sentiwordnet: str):
    found = richness(["A good film."], read_lexicon(sentiwordnet), all_of("a"))
    assert found is not None
    assert (found.positive, found.negative, found.overall) == pytest.approx((0.5 / 3, 0.125 / 3, 0.625 / 3))
    found = richness(["Good!"], read_lexicon(sentiwordnet), all_of("n"))
    assert found is not None
    assert (found.positive, found.negative) == (0.5, 0)


def test_without_a_tagger_the_senses_of_all_parts_count(sentiwordnet: str):
    found = richness(["good"], read_lexicon(sentiwordnet), None)
    assert found is not None
    assert found.positive == pytest.approx((0.75 + 0.25 + 0.5) / 3)


def test_words_without_an_entry_are_looked_up_by_their_base_form_and_else_count_as_words(sentiwordnet: str):
    found = richness(["It breaks twice"], read_lexicon(sentiwordnet), all_of("v"))
    assert found is not None
    assert found.negative == pytest.approx(0.5 / 3)
    assert richness(["123 ..."], read_lexicon(sentiwordnet), None) is None


@pytest.mark.parametrize("text", ["It isn't", "It isn’t", "It ISN'T", "It is not"])
def test_a_contracted_not_counts_as_the_word(tmp_path: Path, text: str):
    file = tmp_path / "small.tsv"
    file.write_text("pos\tPosScore\tNegScore\tSynsetTerms\nr\t0\t0.75\tnot#1\n")
    for tagger in (None, all_of("r")):
        found = richness([text], read_lexicon(str(file)), tagger)
        assert found is not None
        assert found.negative == pytest.approx(0.75 / 3)


def test_a_file_with_a_header_is_read_by_its_columns(tmp_path: Path):
    file = tmp_path / "small.tsv"
    file.write_text("pos\tPosScore\tNegScore\tSynsetTerms\na\t1\t0\tfine#1\n")
    found = richness(["fine"], read_lexicon(str(file)), all_of("a"))
    assert found is not None
    assert found.positive == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pos\tPosScore\tSynsetTerms\n", "no column 'NegScore' among"),
        ("good,1,0\n", "expected pos, PosScore, NegScore, SynsetTerms; give SentiWordNet's own file"),
        ("# nothing\n", "no word in it"),
        ("a\t1\tnan\t0\tgood#1\t\n", "scores from 0 to 1"),
        ("a\t1\t1.5\t0\tgood#1\t\n", "scores from 0 to 1"),
        ("a\t1\t0\t-0.5\tgood#1\t\n", "scores from 0 to 1"),
        ("# a\na\t1\t0\t0.5\tna\u00efve#1\t\n", r"row 1 \(line 2\): not UTF-8 .*; save the file as UTF-8"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, said: str):
    file = tmp_path / "other.txt"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=said):
        read_lexicon(str(file))


def test_a_missing_file_is_refused():
    with pytest.raises(InputError, match="nowhere.txt: No such file or directory"):
        read_lexicon("nowhere.txt")


def test_missing_data_of_the_tagger_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def pos_tag(words: list[str]) -> None:
        raise LookupError("Resource averaged_perceptron_tagger_eng not found.")

    monkeypatch.setattr("nltk.pos_tag", pos_tag)
    with pytest.raises(InputError, match="nltk.downloader averaged_perceptron_tagger_eng, or use"):
        nltk_tagger()


def test_penn_tags_become_the_parts_of_sentiwordnet(monkeypatch: pytest.MonkeyPatch):
    tags = ["JJ", "NNS", "VBD", "RBR", "RP", "DT"]
    monkeypatch.setattr("nltk.pos_tag", lambda words: list(zip(words, tags, strict=False)))
    assert nltk_tagger()(list("abcdef")) == ["a", "n", "v", "r", None, None]


def test_a_report_has_the_richness_of_each_selection(tmp_path: Path, task: Task, sentiwordnet: str):
    runs = write_chain(tmp_path, task)
    settings = {"sentiwordnet": sentiwordnet, "sentiwordnet_tagger": None}
    make_report(runs, str(tmp_path / "report"), **settings)
    found = json.loads((tmp_path / "report/report.json").read_text())["richness"]
    by_name = {one["selection"]: one for one in found}
    # "good <b>film</b>" and "=dull & long" are six words, two of them single letters.
    assert by_name["top"]["positive"] == pytest.approx((0.5 + 0.25) / 6)
    assert by_name["top"]["methods"] == ["T-top-k"]
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert "sentiment richness" in page
    make_report(runs, str(tmp_path / "plain"))
    assert "sentiment richness" not in (tmp_path / "plain/report.html").read_text(encoding="utf-8")


def test_rows_of_another_language_have_no_richness(tmp_path: Path, task: Task, sentiwordnet: str):
    write_chain(tmp_path, task)
    (view,) = pool_views([read(tmp_path / "T-top"), read(tmp_path / "T-random")])
    hindi = replace(view, languages=["en", "en", "en", "hi"])
    found = with_richness(hindi, read_lexicon(sentiwordnet), None).selections
    assert {one.name: one.richness is None for one in found} == {"top": False, "random": True}


def test_umap_is_a_further_layout(tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch):
    write_chain(tmp_path, task)
    embedded = {"id": [f"movies/{n}" for n in range(4)], "embedding": np.eye(4).tolist()}
    artifacts.write(
        tmp_path / "embed", pa.table(embedded), stage="embed", inputs={"pool": reference(tmp_path / "clean")}
    )
    old = artifacts.read(tmp_path / "top")
    inputs = {**old.manifest.inputs, "embeddings": reference(tmp_path / "embed")}
    artifacts.write(tmp_path / "top", old.table, stage="select", facts=old.manifest.facts, inputs=inputs)
    package = ModuleType("umap")
    asked: dict[str, object] = {}

    def made(**settings: object) -> SimpleNamespace:
        asked.update(settings)
        return SimpleNamespace(fit_transform=lambda rows: rows[:, :2])

    vars(package)["UMAP"] = made
    monkeypatch.setitem(sys.modules, "umap", package)
    (view,) = pool_views([read(tmp_path / "T-top")], umap=True)
    layout = view.axes[-1]
    assert (layout.name, layout.x_N.tolist()) == ("embeddings by UMAP", [1, 0, 0, 0])
    assert (asked["n_neighbors"], asked["random_state"]) == (3, 0)


def test_umap_that_is_not_installed_is_one_line(tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match=r"umap: umap is not installed; pip install 'labelbridge\[umap\]'"):
        make_report(write_chain(tmp_path, task), str(tmp_path / "report"), umap=True)
