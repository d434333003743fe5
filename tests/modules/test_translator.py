"""The contract of the translation engines, and the sequence-to-sequence engine on a tiny NLLB."""

import weakref
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.data.sources import Source
from labelbridge.lightning_app.protocols import TextBatch
from labelbridge.lightning_app.translation.gates import Gates
from labelbridge.lightning_app.translation.rows import translated_rows
from labelbridge.modules import LexiconTranslator, TransformersTranslator
from labelbridge.modules.translator import Translations, TranslatorModule

TEXTS = ["good film.", "it was a bad day, and it rained.", "no", "the room is clean"]


class Fussy(TranslatorModule):
    """An engine that writes a text backwards, and breaks on some."""

    def __init__(self, *bad: str) -> None:
        super().__init__("hi")
        self.bad = bad

    def translate(self, texts: list[str]) -> Translations:
        if any(text in self.bad for text in texts):
            raise RuntimeError("CUDA out of memory")
        count = len(texts)
        return {
            "translation": [text[::-1] for text in texts], "finish": ["stop"] * count, "error": [None] * count,
            "n_tokens": [1] * count, "words": [len(text.split()) for text in texts],
        }  # fmt: skip


@pytest.mark.parametrize("bad", [0, 3, 6])
def test_a_text_that_breaks_the_engine_takes_no_other_along(bad: int):
    texts = [f"text {number}" for number in range(7)]
    found = Fussy(texts[bad]).translate_or_say_why(texts)
    assert found["translation"] == [None if number == bad else text[::-1] for number, text in enumerate(texts)]
    assert [error is not None for error in found["error"]] == [number == bad for number in range(7)]
    assert found["error"][bad] == "RuntimeError: CUDA out of memory"
    assert found["words"] == [None if number == bad else 2 for number in range(7)]


def test_a_batch_smaller_than_the_others_is_translated_too():
    # The paper's code loses the rows of a last, shorter batch, and repeats the batch before a failed one.
    engine = Fussy("c")
    batches = [["a", "b"], ["c"], ["d", "e"], ["f"]]
    found = [engine.translate_or_say_why(batch)["translation"] for batch in batches]
    assert found == [["a", "b"], [None], ["d", "e"], ["f"]]


def test_an_engine_that_fails_on_everything_stops_the_run():
    with pytest.raises(InputError, match="Fussy: all 3 texts of a batch failed, the first with .* out of memory; mend"):
        Fussy("a", "b", "c").translate_or_say_why(["a", "b", "c"])


def test_an_engine_that_fails_on_every_text_alone_stops_the_run():
    engine = Fussy("bad")
    for text in [*["bad"] * 7, "good", *["bad"] * 7]:  # a text that succeeds begins the count anew
        engine.translate_or_say_why([text])
    with pytest.raises(InputError, match="Fussy: 8 texts in a row failed, the last with RuntimeError: CUDA out of mem"):
        engine.translate_or_say_why(["bad"])


def test_a_failed_attempt_is_let_go_of_before_the_next():
    class Tensor:
        pass

    held: list[weakref.ref[Tensor]] = []

    class Holding(Fussy):
        def translate(self, texts: list[str]) -> Translations:
            assert all(one() is None for one in held)
            tensor = Tensor()
            held.append(weakref.ref(tensor))
            return super().translate(texts)

    engine = Holding("c")
    found = engine.translate_or_say_why(["a", "b", "c", "d"])
    assert found["translation"] == ["a", "b", None, "d"]
    assert len(held) == 5


def test_a_mistake_in_the_input_stops_the_run():
    class Refusing(Fussy):
        def translate(self, texts: list[str]) -> Translations:
            raise InputError("no data")

    with pytest.raises(InputError, match="no data"):
        Refusing().translate_or_say_why(["a", "b"])


def text_batch(texts: list[str]) -> TextBatch:
    rows = torch.arange(len(texts))
    return {
        "text": texts, "row": rows, "real": rows >= 0, "n_rows": len(texts), "n_tokens": len(texts),
        "n_cells": len(texts),
    }  # fmt: skip


def engine(model: Path, **settings: Any) -> TransformersTranslator:
    made = TransformersTranslator(
        model=str(model), **{"target_language": "hi", "num_beams": 1, "max_new_tokens": 12, **settings}
    )
    made.check("predict")
    made.configure_model()
    return made


@pytest.mark.parametrize("beams", [1, 3])
def test_a_text_is_translated_alike_alone_and_among_others(tiny_nllb: Path, beams: int):
    made = engine(tiny_nllb, num_beams=beams)
    together = made.translate(TEXTS)["translation"]
    assert together == [made.translate([text])["translation"][0] for text in TEXTS]
    assert len(set(together)) > 1


@pytest.mark.parametrize(("failing", "lost"), [([2], []), ([2, 3], [2])], ids=["once", "a text for good"])
def test_a_real_engines_failure_loses_and_repeats_no_other_row(tiny_nllb: Path, failing: list[int], lost: list[int]):
    batches = [["good film.", "no"], ["z", "oh my"], ["why why why"]]
    expected = [text for batch in batches for text in engine(tiny_nllb).translate(batch)["translation"]]
    assert len(set(expected)) == 5
    made, calls = engine(tiny_nllb), []
    generate = made.network.generate

    def fails(**given: Any) -> torch.Tensor:
        calls.append(len(given["input_ids"]))
        if len(calls) in failing:
            raise RuntimeError("CUDA out of memory")
        return generate(**given)

    made.network.generate = fails
    steps = [made.predict_step(text_batch(batch), number) for number, batch in enumerate(batches)]
    found = [text for step in steps for text in step["columns"]["translation"]]
    assert found == [None if number in lost else text for number, text in enumerate(expected)]
    assert calls == [2, 2, 1, 1, 1]


def test_the_target_language_is_the_first_token_written(tiny_nllb: Path):
    for code in ("hi", "mr"):
        made = engine(tiny_nllb, target_language=code)
        seen: list[torch.Tensor] = []
        generate = made.network.generate

        def spy(*args: Any, generate: Any = generate, seen: list = seen, **more: Any) -> torch.Tensor:
            seen.append(generate(*args, **more))
            return seen[-1]

        made.network.generate = spy
        made.translate(TEXTS)
        first = made.tokenizer.convert_ids_to_tokens(seen[0][:, 1].tolist())
        assert set(first) == {made.target.flores}
        assert made.tokenizer.src_lang == "eng_Latn"


def test_a_translation_without_an_end_is_marked_as_cut(tiny_nllb: Path):
    made = engine(tiny_nllb, max_new_tokens=5)
    made.network.generation_config.eos_token_id = None  # it never ends by itself
    found = made.translate(TEXTS)
    assert found["n_tokens"] == [5] * len(TEXTS)
    assert found["finish"] == ["length"] * len(TEXTS)
    long = engine(tiny_nllb, max_length=6).translate(["a very long text that does not fit"])
    assert long["finish"] == ["length"]  # the source was cut, so the translation cannot be whole


def test_an_unknown_piece_is_written_out_and_refused(tiny_nllb: Path):
    made = engine(tiny_nllb)
    tokens = ["▁", "a", "<unk>", "b", "</s>", "<pad>"]
    written = [made.tokenizer.convert_tokens_to_ids(["</s>", "hin_Deva", *tokens])] * len(TEXTS)
    made.network.generate = lambda **_: torch.tensor(written)
    found = made.translate(TEXTS)
    assert [text.replace(" ", "") for text in found["translation"]] == ["a<unk>b"] * len(TEXTS)
    assert found["finish"] == ["stop"] * len(TEXTS)
    rows = pa.table({"id": list("1234"), "text": TEXTS, "lang": ["en"] * 4})
    done = pa.table({"text": TEXTS, **{name: found[name] for name in ("translation", "finish", "error")}})
    rejected = translated_rows(rows, ["text"], done, Gates(), made.target).rejected
    assert rejected["reason"].to_pylist() == ["unknown"] * len(TEXTS)


def test_a_prefix_stands_before_every_source(tiny_nllb: Path):
    plain, prefixed = engine(tiny_nllb), engine(tiny_nllb, prefix="good ")
    assert prefixed.translate(["film."]) == plain.translate(["good film."])


def test_the_models_own_code_can_be_given(tiny_nllb: Path):
    given = engine(tiny_nllb, target_language="hi-Latn", target_code="mar_Deva")
    assert given.translate(TEXTS) == engine(tiny_nllb, target_language="mr").translate(TEXTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_language": "sw"}, r"no token for the language swh_Latn; give its own code with --model.target_code"),
        ({"source_code": "eng"}, r"no token for the language eng; give its own code with --model.source_code"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"target_language": "klingon"}, "model.target_language 'klingon': expected an ISO 639 code"),
        ({"target_language": "mai"}, r"no token for the language mai; give its own code with --model.target_code"),
        ({"target_language": "mai-Deva"}, r"no token for the language mai_Deva; .*--model.target_code"),
    ],
)
def test_what_the_model_cannot_do_is_refused(tiny_nllb: Path, settings: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        engine(tiny_nllb, **settings)


def test_a_dictionary_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="nowhere.tsv: no such file"):
        LexiconTranslator(target_language="hi", lexicon=Source(path="nowhere.tsv")).check("predict")
    (tmp_path / "words.tsv").write_text("mr\ten\nचांगला\tgood\n", encoding="utf-8")
    marathi = LexiconTranslator(
        source_language="mr", target_language="en", lexicon=Source(path=str(tmp_path / "words.tsv"))
    )
    with pytest.raises(InputError, match="no base forms for 'mr'; set it to false"):
        marathi.check("predict")
    with pytest.raises(InputError, match="ratio is 2"):
        LexiconTranslator(target_language="hi", lexicon=Source(path="words.tsv"), ratio=2)


def test_a_missing_taggers_data_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    (tmp_path / "words.tsv").write_text("en\tpos\thi\nlike\tprep\tजैसा\nlike\tv\tपसंद\n", encoding="utf-8")
    settings = {"target_language": "hi", "lexicon": Source(path=str(tmp_path / "words.tsv")), "tagger": "nltk"}
    with pytest.raises(InputError, match="python -m nltk.downloader averaged_perceptron_tagger_eng"):
        LexiconTranslator(**settings).check("predict")


def test_nltks_tagger_chooses_among_translations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nltk = pytest.importorskip("nltk")
    from nltk.tag.perceptron import PerceptronTagger

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    learned = PerceptronTagger(load=False)
    learned.train(
        [[("i", "PRP"), ("like", "VBP"), ("films", "NNS")], [("films", "NNS"), ("like", "IN"), ("this", "DT")]]
    )
    folder = tmp_path / "taggers" / "averaged_perceptron_tagger_eng"
    folder.mkdir(parents=True)
    learned.save_to_json(lang="eng", loc=str(folder))
    (tmp_path / "words.tsv").write_text("en\tpos\thi\nlike\tprep\tजैसा\nlike\tv\tपसंद\n", encoding="utf-8")
    made = LexiconTranslator(target_language="hi", lexicon=Source(path=str(tmp_path / "words.tsv")), tagger="nltk")
    assert made.translate(["i like films"])["translation"] == ["i पसंद films"]
