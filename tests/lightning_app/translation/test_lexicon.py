"""Dictionaries in the formats they come in, and words replaced by them."""

import gzip
import os
from dataclasses import replace
from pathlib import Path

import pytest

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.data.sources import Source
from labelbridge.lightning_app.translation.lexicon import Entry, Lexicon, penn_part, read_lexicon, replace_words

WORDS = Lexicon(
    {
        "good": [Entry("अच्छा"), Entry("भला")],
        "film": [Entry("फ़िल्म")],
        "battery": [Entry("बैटरी")],
        "battery life": [Entry("बैटरी की उम्र")],
        "like": [Entry("जैसा"), Entry("पसंद करना", "verb")],
        "not": [Entry("नहीं")],
        "be": [Entry("होना")],
    }
)


def write(folder: Path, name: str, text: str) -> Source:
    (folder / name).write_text(text, encoding="utf-8")
    return Source(path=str(folder / name))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("words.tsv", "en\tpos\thi\ngood\tAdj\tअच्छा\ngood\tAdj\tभला\n"),
        ("words.tsv", "en\ttgt\ngood\tअच्छा\ngood\tभला\n"),
        ("words.csv", "source,target\ngood,अच्छा\ngood,भला\n"),
        ("words.jsonl", '{"en": "good", "hi": "अच्छा"}\n{"en": "good", "hi": "भला"}\n'),
        ("words.txt", "good अच्छा\ngood भला\n"),
        ("words.txt", "good\tअच्छा\n\ngood\tभला\n"),
        # A column "source" that says where a pair was found.
        ("words.tsv", "en\tpos\thi\tsource\ngood\tadj\tअच्छा\teng-hin\ngood\tadj\tभला\thin-eng\n"),
    ],
)
def test_every_format_gives_the_same_translations(tmp_path: Path, name: str, text: str):
    found = read_lexicon([write(tmp_path, name, text)], "en", "hi")
    assert [one.text for one in found.entries["good"]] == ["अच्छा", "भला"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("words.txt", "\ufeffgood अच्छा\r\ngood भला\r\n".encode()),
        ("words.txt.gz", gzip.compress("good अच्छा\ngood भला\n".encode(), mtime=0)),
        ("WORDS.TXT", "good\tअच्छा\ngood\tभला\n".encode()),
    ],
)
def test_a_text_file_is_read_as_others_save_it(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    found = read_lexicon([Source(str(tmp_path / name))], "en", "hi")
    assert [one.text for one in found.entries["good"]] == ["अच्छा", "भला"]


@pytest.mark.parametrize(
    ("name", "content", "columns", "said"),
    [
        ("words.txt", "good bön\n".encode("latin-1"), {}, r"row 0 \(line 1\): not UTF-8"),
        ("words.txt", "good अच्छा\n".encode("utf-16"), {}, r"row 0 \(line 1\): not UTF-8"),
        ("words.txt.gz", b"good gut\n", {}, "cannot be read"),
        ("words.jsonl", b'{"en": "good", "hi": "gut", "pos": 5}\n', {}, "row 0 .*: pos is 5, expected a text or null"),
        ("words.tsv", b"en\thi\ngood\tgut\n", {"sorce": "en"}, "columns has 'sorce', .*did you mean 'source'"),
        ("words.txt", b"good gut\n", {"pos": "third", "lang": "x"}, "columns has 'lang'"),
        ("words.tsv", b"en\thi\ngood\tgut\n", {"pos": "part"}, "no column part"),
    ],
)
def test_a_dictionary_that_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, content: bytes, columns: dict[str, str], said: str
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_lexicon([Source(str(tmp_path / name), columns=columns)], "en", "hi")


def test_a_pipe_is_no_dictionary(tmp_path: Path):
    os.mkfifo(tmp_path / "words.txt")
    with pytest.raises(InputError, match="words.txt: not a regular file"):
        read_lexicon([Source(str(tmp_path / "words.txt"))], "en", "hi")


def test_parts_of_speech_have_one_name(tmp_path: Path):
    text = "en\tpos\thi\nlike\tPrep\tजैसा\nlike\tVT\tपसंद करना\nlike\tn\tरुचि\nlike\tAdj\tसमान\nwell\tAdv.\tअच्छी तरह\n"
    found = read_lexicon([write(tmp_path, "words.tsv", text)], "en", "hi")
    assert [one.part for one in found.entries["like"]] == [None, "verb", "noun", "adjective"]
    assert found.entries["well"] == [Entry("अच्छी तरह", "adverb")]
    assert [penn_part(tag) for tag in ("JJR", "NNS", "VBD", "RB", "IN")] == [
        "adjective",
        "noun",
        "verb",
        "adverb",
        None,
    ]


def test_a_dictionarys_own_signs_are_not_words(tmp_path: Path):
    text = "en\ttgt\nbig\t-kubwa\nblood\t%damu\nclaw\tukuCa\nclaw\tukucha\n1 sg.\tmimi\nwho?\tnani\nwe₁\tsisi\nbark\tgamb~a\n"
    found = read_lexicon([write(tmp_path, "words.tsv", text)], "en", "sw")
    assert {head: [one.text for one in own] for head, own in found.entries.items()} == {
        "big": ["kubwa"], "claw": ["ukucha"], "who": ["nani"],
    }  # fmt: skip
    assert sum(found.dropped.values()) == 5


def test_numbers_of_senses_and_colons_for_the_visarga_are_put_right(tmp_path: Path):
    text = "en\thi\nactually\tवस्तुत:\nagain\tपुन:\ntragic\tदु:खद\nbulky\t2.स्थूल\nten\t10\nratio\ta:b\n"
    found = read_lexicon([write(tmp_path, "words.tsv", text)], "en", "hi")
    assert {head: [one.text for one in own] for head, own in found.entries.items()} == {
        "actually": ["वस्तुतः"], "again": ["पुनः"], "tragic": ["दुःखद"], "bulky": ["स्थूल"],
    }  # fmt: skip
    assert sum(found.dropped.values()) == 2
    assert "वस्तुतः" in read_lexicon([write(tmp_path, "words.tsv", text)], "hi", "en").entries


def test_the_first_files_translations_come_first(tmp_path: Path):
    first = write(tmp_path, "first.tsv", "en\thi\ngood\tभला\n")
    second = write(tmp_path, "second.tsv", "en\thi\ngood\tअच्छा\nto go\tजाना\n")
    found = read_lexicon([first, second], "en", "hi")
    assert [one.text for one in found.entries["good"]] == ["भला", "अच्छा"]
    assert "go" in found.entries  # "to go"


def test_the_other_direction_reads_the_same_file(tmp_path: Path):
    found = read_lexicon([write(tmp_path, "words.tsv", "en\tpos\thi\ngood\tadj\tअच्छा\nthe\tdet\t-\n")], "hi", "en")
    assert found.entries == {"अच्छा": [Entry("good", "adjective")]}


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("words.txt", "good अच्छा\n", {"source": "second", "target": "first"}),
        ("words.tsv", "source\ttarget\ngood\tअच्छा\n", {"source": "target", "target": "source"}),
    ],
)
def test_a_file_without_language_codes_is_told_the_direction(
    tmp_path: Path, name: str, text: str, columns: dict[str, str]
):
    source = replace(write(tmp_path, name, text), columns=columns)
    assert read_lexicon([source], "hi", "en").entries == {"अच्छा": [Entry("good")]}


def test_a_pair_of_a_text_file_has_two_columns(tmp_path: Path):
    source = replace(write(tmp_path, "words.txt", "good अच्छा\n"), columns={"source": "hi"})
    with pytest.raises(InputError, match=r"words.txt: columns .*'hi'.*, expected in a .txt {source: first"):
        read_lexicon([source], "hi", "en")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "words.tsv",
            "english\thi\ngood\tअच्छा\n",
            r"no column en or source among \['english', 'hi'\].*columns: {source",
        ),
        ("words.tsv", "en\thi\n1\t2\n", "no pair of words in it"),
        ("words.txt", "good अच्छा\ngood\n", "words.txt line 2: 1 parts, expected a word and its translation"),
    ],
)
def test_a_file_that_is_no_dictionary_is_refused(tmp_path: Path, name: str, text: str, message: str):
    with pytest.raises(InputError, match=message):
        read_lexicon([write(tmp_path, name, text)], "en", "hi")


def test_punctuation_spaces_and_unknown_words_stay():
    found = replace_words("  Good film,\n(not good)... 3.5 café!", WORDS)
    assert found.text == "  अच्छा फ़िल्म,\n(नहीं अच्छा)... 3.5 café!"
    assert (found.words, found.known, found.missing) == (7, 4, ["3", "5", "café"])


def test_the_longest_phrase_is_taken():
    assert replace_words("battery life, battery", WORDS).text == "बैटरी की उम्र, बैटरी"


def test_a_phrase_does_not_go_over_punctuation():
    assert replace_words("No battery. Life, battery  life.", WORDS).text == "No बैटरी. Life, बैटरी की उम्र."


def test_letters_parted_by_dots_are_one_word(tmp_path: Path):
    words = read_lexicon([write(tmp_path, "words.tsv", "en\thi\na\tएक\na.m.\tसुबह\n")], "en", "hi")
    assert replace_words("a film at 4 a.m. or 3.5 p.m.", words).text == "एक film at 4 सुबह. or 3.5 p.m."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The film ends the film", "filamu ends filamu"),
        ("  (the film) 'the'\nthe  film", "  (filamu) ''\nfilamu"),
        ("See the. The end the", "See. end"),
        ("of the a, film", "of, filamu"),
        ("The", ""),
    ],
)
def test_a_dash_has_the_word_and_its_space_left_out(tmp_path: Path, text: str, expected: str):
    words = read_lexicon([write(tmp_path, "words.tsv", "en\tsw\nthe\t-\na\t-\nfilm\tfilamu\n")], "en", "sw")
    found = replace_words(text, words)
    assert found.text == expected
    assert replace_words(text, words, ratio=0).text == text
    assert found.known == found.words - len(found.missing)


def test_base_forms_are_looked_up_where_a_form_is_not_listed():
    base = {"films": "film", "was": "be"}
    found = replace_words("Films was films", WORDS, lemma=lambda word: base.get(word, word))
    assert found.text == "फ़िल्म होना फ़िल्म"


def test_a_negation_is_not_lost():
    found = replace_words("It wasn't good", WORDS, lemma=lambda word: word)
    assert found.text == "It नहीं अच्छा"


def test_a_tagger_chooses_the_translation_of_the_same_part():
    assert replace_words("I like", WORDS).text == "I जैसा"
    assert replace_words("I like", WORDS, tagger=lambda words: [None, "verb"]).text == "I पसंद करना"


def test_the_ratio_is_the_share_of_known_words_replaced():
    text = " ".join(["good film"] * 500)
    found = replace_words(text, WORDS, ratio=0.3)
    assert found.known == found.words == 1000
    replaced = sum(word in ("अच्छा", "फ़िल्म") for word in found.text.split())
    assert 250 < replaced < 350
    assert replace_words(text, WORDS, ratio=0).text == text


def test_the_sentence_ratio_is_the_share_of_texts_touched():
    texts = [f"good film {number}" for number in range(400)]
    touched = sum(replace_words(text, WORDS, sentence_ratio=0.25).text != text for text in texts)
    assert 70 < touched < 130


def test_a_text_that_the_draws_leave_alone_is_told_from_one_without_a_known_word():
    assert replace_words("good film", WORDS, sentence_ratio=0).left_alone
    assert replace_words("good film", WORDS, ratio=0).left_alone
    assert replace_words("terrible plot", WORDS, sentence_ratio=0).left_alone
    assert not replace_words("terrible plot", WORDS, ratio=0).left_alone
    assert not replace_words("good plot", WORDS).left_alone


def test_draws_depend_on_text_and_seed_alone():
    text = " ".join(["good"] * 50)
    first = replace_words(text, WORDS, choice="random", ratio=0.5, seed=1)
    assert replace_words(text, WORDS, choice="random", ratio=0.5, seed=1) == first
    assert replace_words(text, WORDS, choice="random", ratio=0.5, seed=2) != first
    assert {"अच्छा", "भला", "good"} == set(first.text.split())
