"""Texts out of rows, each once, and translations back into the rows that they belong to."""

import pyarrow as pa
import pytest

from labelbridge.lightning_app.core.languages import language
from labelbridge.lightning_app.translation.gates import Gates
from labelbridge.lightning_app.translation.rows import segments, translated_rows

HINDI = language("hi")
PAIRS = pa.table(
    {
        "id": ["1", "2", "3"],
        "premise": ["A man eats.", "A man eats.", "It rains."],
        "hypothesis": ["Someone eats.", "It rains.", "It is dry."],
        "label": ["entailment", "neutral", "contradiction"],
        "lang": ["en", "en", "en"],
        "probs": [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]],
    }
)
HINDI_OF = {
    "A man eats.": "एक आदमी खाता है।",
    "Someone eats.": "कोई खाता है।",
    "It rains.": "बारिश होती है।",
    "It is dry.": "सूखा है।",
}


def done(texts: pa.Table, **other: str | None) -> pa.Table:
    """The engine's output: the dictionary above, but for what is named."""
    translations = [other.get(text.split()[0], HINDI_OF[text]) for text in texts["text"].to_pylist()]
    nothing = pa.array([None] * texts.num_rows, pa.string())
    return texts.append_column("translation", pa.array(translations, pa.string())).append_column(
        "finish", nothing
    ).append_column("error", nothing)  # fmt: skip


def test_a_text_that_stands_in_several_rows_and_columns_is_translated_once():
    texts = segments(PAIRS, ["premise", "hypothesis"])["text"].to_pylist()
    assert texts == ["A man eats.", "It rains.", "Someone eats.", "It is dry."]


def test_everything_else_travels_with_the_row():
    texts = segments(PAIRS, ["premise", "hypothesis"])
    found = translated_rows(PAIRS, ["premise", "hypothesis"], done(texts), Gates(), HINDI)
    assert found.kept.select(["id", "label", "probs"]).equals(PAIRS.select(["id", "label", "probs"]))
    assert found.kept["premise"].to_pylist() == [HINDI_OF[text] for text in PAIRS["premise"].to_pylist()]
    assert found.kept["hypothesis"].to_pylist() == [HINDI_OF[text] for text in PAIRS["hypothesis"].to_pylist()]
    assert found.kept["source_premise"].to_pylist() == PAIRS["premise"].to_pylist()
    assert found.kept["lang"].to_pylist() == ["hi"] * 3
    assert found.kept["source_lang"].to_pylist() == ["en"] * 3
    assert found.rejected.num_rows == 0
    assert found.facts["segments"] == 4
    assert found.facts["segments_saved"] == 2


def test_a_failing_row_is_kept_aside_with_its_reason_and_nobody_elses_text():
    texts = segments(PAIRS, ["premise", "hypothesis"])
    found = translated_rows(PAIRS, ["premise", "hypothesis"], done(texts, Someone=""), Gates(), HINDI)
    assert found.kept["id"].to_pylist() == ["2", "3"]
    assert found.kept["premise"].to_pylist() == [HINDI_OF["A man eats."], HINDI_OF["It rains."]]
    assert found.rejected.select(["id", "hypothesis", "reason", "label"]).to_pylist() == [
        {"id": "1", "hypothesis": "", "reason": "hypothesis: empty", "label": "entailment"}
    ]
    assert found.facts["gates"] == {"passed": 2, "hypothesis: empty": 1}


def test_a_shared_text_that_fails_takes_all_its_rows():
    texts = segments(PAIRS, ["premise", "hypothesis"])
    found = translated_rows(PAIRS, ["premise", "hypothesis"], done(texts, A="A man <unk>"), Gates(), HINDI)
    assert found.rejected["id"].to_pylist() == ["1", "2"]
    assert found.rejected["reason"].to_pylist() == ["premise: unknown"] * 2


def test_a_test_set_loses_no_row():
    texts = segments(PAIRS, ["premise", "hypothesis"])
    found = translated_rows(PAIRS, ["premise", "hypothesis"], done(texts, Someone=""), Gates(), HINDI, failing="keep")
    assert found.kept["id"].to_pylist() == ["1", "2", "3"]
    assert found.kept["hypothesis"].to_pylist()[0] == "Someone eats."  # its own source, marked
    assert found.kept["reason"].to_pylist() == ["hypothesis: empty", None, None]
    assert found.rejected.num_rows == 0


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 2, 0]])
def test_the_order_of_rows_changes_nothing(order: list[int]):
    rows = PAIRS.take(order)
    straight = translated_rows(PAIRS, ["premise"], done(segments(PAIRS, ["premise"])), Gates(), HINDI).kept
    shuffled = translated_rows(rows, ["premise"], done(segments(rows, ["premise"])), Gates(), HINDI).kept
    assert shuffled.sort_by("id").equals(straight)


def test_a_second_hop_names_its_own_source():
    first = translated_rows(PAIRS, ["premise"], done(segments(PAIRS, ["premise"])), Gates(), HINDI).kept
    texts = segments(first, ["premise"])
    nothing = pa.array([None] * texts.num_rows, pa.string())
    roman = texts.append_column("translation", pa.array(["ek aadmi khata hai", "barish hoti hai"]))
    roman = roman.append_column("finish", nothing).append_column("error", nothing)
    second = translated_rows(first, ["premise"], roman, Gates(), language("hi-Latn")).kept
    assert second["source_lang"].to_pylist() == ["hi"] * 3
    assert second["source_premise"].to_pylist() == first["premise"].to_pylist()
    assert second.column_names.count("source_premise") == 1
    assert second["id"].to_pylist() == PAIRS["id"].to_pylist()
