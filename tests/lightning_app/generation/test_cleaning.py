"""From raw generations to the pool, with every row accounted for."""

from pathlib import Path

import pytest
from conftest import Command, write_jsonl

from labelbridge.lightning_app.core import artifacts

RAW = [
    ("a/0", 'Review: "The pool was lovely and the staff were kind."', "positive", "travel", "stop"),
    (
        "a/1",
        "The pool was lovely and the staff were kind",
        "positive",
        "travel",
        "stop",
    ),  # the same but for a full stop
    ("a/2", "The pool was lovely and the staff were kind and helpful.", "positive", "travel", "stop"),
    ("a/3", "I cannot fulfill your request.", "negative", "travel", "stop"),
    ("a/4", "The battery died after a week and nobody at the shop would", "negative", "gadgets", "length"),
    ("a/5", None, "negative", "gadgets", "error"),
    ("a/6", "Bad.", "negative", "gadgets", "stop"),
    (
        "a/7",
        "La batería murió después de una semana y nadie en la tienda quiso ayudarme.",
        "negative",
        "gadgets",
        "stop",
    ),
    ("a/8", "The café charges 3.5 euros for tea, and I don’t mind paying it.", "Neutral", "travel", "stop"),
    ("a/9", "This very sentence stands in the gold set already.", "neutral", "travel", "stop"),
    ("a/10", "This very sentence stands in the target set already.", "neutral", "travel", "stop"),
]
REASONS = {
    "a/1": "duplicate", "a/2": "near duplicate", "a/3": "refusal", "a/4": "cut", "a/5": "failed", "a/6": "short",
    "a/7": "language", "a/9": "in exclude", "a/10": "in exclude_targets",
}  # fmt: skip


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    names = ("id", "text", "prompt_label", "domain", "finish")
    rows = [{**dict(zip(names, row, strict=True)), "error": "timeout" if row[4] == "error" else None} for row in RAW]
    write_jsonl(tmp_path / "gold.jsonl", [{"text": RAW[9][1].upper(), "label": "neutral"}])
    write_jsonl(tmp_path / "target.jsonl", [{"text": RAW[10][1], "label": "never read"}])
    return write_jsonl(tmp_path / "raw.jsonl", rows)


def clean(cli: Command, raw: Path, *words: object):
    return cli(
        "clean", "--config", "clean.yaml", f"--raw.path={raw}", "--out=pool", "--min_words=3", "--near_duplicates=0.6",
        '--exclude=[{"path": "gold.jsonl"}]', '--exclude_targets=[{"path": "target.jsonl"}]', *words,
    )  # fmt: skip


@pytest.mark.slow
def test_every_row_is_kept_or_rejected_with_its_reason(cli: Command, raw: Path):
    outcome = clean(cli, raw)
    assert outcome.code == 0, outcome.err
    pool, rejected = artifacts.read(Path("pool"), "clean").table, artifacts.read(Path("pool/_rejected")).table
    assert dict(zip(rejected["id"].to_pylist(), rejected["reason"].to_pylist(), strict=True)) == REASONS
    assert pool["id"].to_pylist() == ["a/0", "a/8"]
    assert len(RAW) == pool.num_rows + rejected.num_rows


def test_text_and_label_travel_untouched(cli: Command, raw: Path):
    assert clean(cli, raw).code == 0
    pool = {row["id"]: row for row in artifacts.read(Path("pool")).table.to_pylist()}
    assert pool["a/0"]["text"] == "The pool was lovely and the staff were kind."
    assert pool["a/8"]["text"] == "The café charges 3.5 euros for tea, and I don’t mind paying it."
    assert (pool["a/8"]["prompt_label"], pool["a/8"]["domain"]) == ("neutral", "travel")
    rejected = {row["id"]: row for row in artifacts.read(Path("pool/_rejected")).table.to_pylist()}
    assert rejected["a/3"]["text"] == "I cannot fulfill your request."  # as it came


def test_the_summary_counts_by_class_domain_and_reason(cli: Command, raw: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    assert clean(cli, raw).code == 0
    counts = artifacts.read_manifest(Path("pool")).facts["counts"]
    assert counts["negative / gadgets"] == {"cut": 1, "failed": 1, "short": 1, "language": 1}
    assert sum(counts["total"].values()) == len(RAW)
    assert "class / domain" in caplog.text


def test_a_part_is_drawn_by_the_seed(cli: Command, raw: Path):
    words = ("--exclude=null", "--exclude_targets=null", "--near_duplicates=null", "--language=null", "--size=3")
    kept = []
    for seed, out in ((0, "one"), (0, "two"), (1, "three")):
        assert clean(cli, raw, *words, f"--seed={seed}", f"--out={out}").code == 0
        kept.append(artifacts.read(Path(out)).table["id"].to_pylist())
    assert kept[0] == kept[1] != kept[2]
    assert artifacts.read(Path("one/_rejected")).table["reason"].to_pylist().count("beyond size") == 3


def test_the_pool_feeds_the_selection(cli: Command, raw: Path):
    assert clean(cli, raw).code == 0
    words = ("--pool.path=pool", "--strategy=random", "--class_from=prompt", "--pseudolabels=null", "--quota=1")
    outcome = cli("select", "--config", "select.yaml", *words, "--out=selected")
    assert outcome.code == 0, outcome.err
    lineage = artifacts.read_manifest(Path("selected")).lineage
    assert lineage["raw"] == artifacts.read_manifest(Path("pool")).inputs["raw"]["fingerprint"]


def test_generated_hypotheses_become_pairs(cli: Command, tmp_path: Path):
    rows = [
        {"id": "p/0/neutral", "premise": "A man sleeps.", "text": "Hypothesis: He is tired.", "prompt_label": "neutral"}
    ]
    write_jsonl(tmp_path / "raw.jsonl", rows)
    words = ("--raw.path=raw.jsonl", "--exclude=null", "--out=pool")
    assert cli("clean", "--config", "clean.yaml", "--config", "tasks/nli.yaml", *words).code == 0
    row = artifacts.read(Path("pool")).table.to_pylist()[0]
    assert (row["premise"], row["hypothesis"], row["prompt_label"]) == ("A man sleeps.", "He is tired.", "neutral")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--language=xx"], "language 'xx': expected an ISO 639-1 code"),
        (["--raw.path=nowhere"], "nowhere: no such file"),
        (["--text_column=body"], "text_column 'body': expected one of"),
        (["--exclude=[{\"path\": \"nowhere.jsonl\"}]"], "nowhere.jsonl: no such file"),
    ],
)  # fmt: skip
def test_mistakes(cli: Command, raw: Path, words: list[str], said: str):
    outcome = clean(cli, raw, *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert not artifacts.is_whole(Path("pool"))


def test_few_shot_examples_do_not_come_back(cli: Command, raw: Path):
    Path("mine.yaml").write_text(
        "name: m\nsystem: s\nclasses: {positive: x}\nexamples: {positive: [the POOL was lovely and the staff were kind]}\n"
    )
    assert clean(cli, raw, "--prompts=mine.yaml").code == 0
    rejected = {row["id"]: row["reason"] for row in artifacts.read(Path("pool/_rejected")).table.to_pylist()}
    assert rejected["a/0"] == rejected["a/1"] == "in examples"


def test_rows_of_one_meaning_are_kept_once(cli: Command, raw: Path, tmp_path: Path):
    import pyarrow as pa

    texts = ["I loved it.", "Rain all day.", "I adored it.", "It rained from dawn to dusk."]
    write_jsonl(raw, [{"id": str(n), "text": text, "prompt_label": "neutral"} for n, text in enumerate(texts)])
    units = [[1.0, 0.0], [0.0, 1.0], [0.99, 0.14], [0.6, 0.8]]
    artifacts.write(tmp_path / "embed", pa.table({"id": list("0123"), "embedding": units}), stage="embed")
    words = (
        "--min_words=1",
        "--embeddings=embed",
        "--semantic_duplicates=0.9",
        "--language=null",
        "--near_duplicates=null",
    )
    assert clean(cli, raw, *words).code == 0
    assert artifacts.read(Path("pool")).table["id"].to_pylist() == ["0", "1", "3"]
    write_jsonl(raw, [{"id": "new", "text": "A b c d.", "prompt_label": "neutral"}])
    outcome = clean(cli, raw, *words, "--overwrite=true")
    assert outcome.code == 2
    assert "embed: no row for id 'new'" in outcome.err


def test_columns_of_ones_own_come_along_in_their_type(cli: Command, tmp_path: Path):
    write_jsonl(
        tmp_path / "raw.jsonl", [{"text": "A fine long day.", "prompt_label": "positive", "score": -0.5, "n": 3}]
    )
    assert cli("clean", "--config", "clean.yaml", "--raw.path=raw.jsonl", "--exclude=null", "--out=pool").code == 0
    row = artifacts.read(Path("pool")).table.to_pylist()[0]
    assert (row["score"], row["n"]) == (-0.5, 3)


def pairs(tmp_path: Path, *rows: tuple[str | None, str | None, str]) -> Path:
    names = ("premise", "text", "prompt_label")
    return write_jsonl(
        tmp_path / "raw.jsonl", [{"id": str(n), **dict(zip(names, row, strict=True))} for n, row in enumerate(rows)]
    )


def clean_pairs(cli: Command, *words: object) -> dict[str, str]:
    """Reasons of the rejected pairs."""
    every = ("clean", "--config", "clean.yaml", "--config", "tasks/nli.yaml", "--raw.path=raw.jsonl", "--out=pool")
    outcome = cli(*every, "--exclude=null", *words)
    assert outcome.code == 0, outcome.err
    rejected = artifacts.read(Path("pool/_rejected")).table.to_pylist()
    return {row["id"]: row["reason"] for row in rejected}


def test_pairs_are_doubled_when_both_sides_are(cli: Command, tmp_path: Path):
    one, other, said = (
        "A man sleeps on the long green bench.",
        "The council met at noon on Monday.",
        "Nobody is awake in here.",
    )
    pairs(tmp_path, (one, said, "neutral"), (other, said, "neutral"), (one, said.upper(), "neutral"),
          (one, "Nobody is awake in here, sadly.", "neutral"))  # fmt: skip
    assert clean_pairs(cli, "--near_duplicates=0.4") == {"2": "duplicate", "3": "near duplicate"}


def test_the_word_limits_hold_for_each_side(cli: Command, tmp_path: Path):
    pairs(tmp_path, ("Too short.", "A man sleeps on a bench.", "neutral"), (None, "A man sleeps on a bench.", "neutral"),
          ("A man sleeps on a bench.", "Too short.", "neutral"), ("A man sleeps on a bench.", "He is very tired now.", "neutral"))  # fmt: skip
    assert clean_pairs(cli, "--min_words=5") == {"0": "short", "1": "short", "2": "short"}


def test_a_pair_is_in_gold_when_the_pair_is(cli: Command, tmp_path: Path):
    pairs(
        tmp_path,
        ("A man sleeps.", "He is very tired now.", "neutral"),
        ("A dog runs.", "He is very tired now.", "neutral"),
    )
    gold = {"premise": "a man sleeps", "hypothesis": "He is very tired now!", "label": "neutral"}
    write_jsonl(tmp_path / "gold.jsonl", [gold])
    assert clean_pairs(cli, '--exclude=[{"path": "gold.jsonl"}]') == {"0": "in exclude"}


def test_premises_are_cleaned_before_the_second_step(cli: Command, tmp_path: Path):
    write_jsonl(tmp_path / "raw.jsonl", [
        {"id": "p/0", "text": "Sentence: A man sleeps on a bench.", "prompt_label": None, "domain": "travel"},
        {"id": "p/1", "text": "I cannot write that.", "prompt_label": None, "domain": "travel"},
    ])  # fmt: skip
    assert clean_pairs(cli, "--text_column=premise", "--min_words=5") == {"p/1": "refusal"}
    assert artifacts.read(Path("pool")).table.to_pylist() == [
        {"id": "p/0", "premise": "A man sleeps on a bench.", "domain": "travel"}
    ]


def test_pairs_without_a_premise_are_refused(cli: Command, tmp_path: Path):
    write_jsonl(tmp_path / "raw.jsonl", [{"text": "He is tired.", "prompt_label": "neutral"}])
    words = ("--raw.path=raw.jsonl", "--exclude=null", "--out=pool")
    outcome = cli("clean", "--config", "clean.yaml", "--config", "tasks/nli.yaml", *words)
    assert outcome.code == 2
    assert "no column 'premise' among" in outcome.err


def test_labels_of_raw_files_are_mapped(cli: Command, tmp_path: Path):
    rows = [
        ("Good day to all of you.", "pos"),
        ("Odd day to all of us.", "mixed"),
        ("Grim day to all of them.", "NEGATIVE"),
    ]
    write_jsonl(tmp_path / "raw.jsonl", [{"text": text, "prompt_label": label} for text, label in rows])
    words = ("--exclude=null", "--out=pool", '--raw.label_map={"pos": "positive", "mixed": null}')
    outcome = cli("clean", "--config", "clean.yaml", "--raw.path=raw.jsonl", *words)
    assert outcome.code == 0, outcome.err
    assert artifacts.read(Path("pool")).table["prompt_label"].to_pylist() == ["positive", "negative"]


def test_the_balance_of_classes_is_said(cli: Command, raw: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    assert clean(cli, raw).code == 0
    assert "kept by class: negative 0 (0.0 %), neutral 1 (50.0 %), positive 1 (50.0 %)" in caplog.text


def test_nothing_in_is_nothing_out(cli: Command, tmp_path: Path):
    write_jsonl(tmp_path / "raw.jsonl", [{"text": "", "prompt_label": "neutral"}])
    words = ("clean", "--config", "clean.yaml", "--raw.path=raw.jsonl", "--exclude=null", "--out=pool")
    outcome = cli(*words)
    assert outcome.code == 2
    assert "no row is left of 1" in outcome.err
    assert cli(*words, "--allow_empty=true").code == 0
    assert artifacts.read(Path("pool")).table.num_rows == 0
    assert artifacts.read(Path("pool/_rejected")).table["reason"].to_pylist() == ["empty"]
