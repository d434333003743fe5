"""Rows into another language by command: what goes in comes out once, and what follows cannot tell the difference."""

import json
import random
import signal
from pathlib import Path

import pytest
import warm
from conftest import LABELS, QUIET, WORDS, Command, Files, Stages, labelled, write_jsonl

from labelbridge.lightning_app.core import artifacts

pytestmark = pytest.mark.slow

DICTIONARY = {
    "good": "अच्छा", "bad": "बुरा", "room": "कमरा", "and": "और", "it": "यह", "was": "था", "very": "बहुत", "great": "महान",
    "slow": "धीमा", "table": "मेज़",
}  # fmt: skip
# One token a word, so that the tiny encoder keeps reading something.
ECHO = {word: word.upper() for words in WORDS.values() for word in words}


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    path = tmp_path / "en-hi.tsv"
    path.write_text("en\thi\n" + "".join(f"{en}\t{hi}\n" for en, hi in DICTIONARY.items()), encoding="utf-8")
    return path


@pytest.fixture
def translate(cli: Command, dictionary: Path):
    """Words of a translation by the dictionary above."""

    def run(rows: object, out: str, *words: object):
        model = (f'--model.lexicon=[{{"path": "{dictionary}"}}]', "--model.lemmatize=false")
        return cli(
            "predict", "--config", "translate.yaml", *model, f"--data.rows.path={rows}", f"--out={out}", *QUIET, *words
        )

    return run


def test_shards_of_a_translation_are_one_run(translate, files: Files):
    """Texts are shared out; rows and their gates are put together at the end."""
    few = "--data.tokens_per_batch=40"
    for number in (2, 1, 3):
        assert translate(files.gold, "three", few, f"--shard={number}/3").code == 0
    assert translate(files.gold, "three", few).code == 0
    assert translate(files.gold, "one", few).code == 0
    for part in ("", "_rejected"):
        one, three = (artifacts.read(Path(out, part)).manifest.fingerprint for out in ("one", "three"))
        assert three == one


def test_gold_rows_keep_ids_and_labels_and_change_their_language(translate, files: Files):
    outcome = translate(files.gold, "hi")
    assert outcome.code == 0, outcome.err
    read, rejected = artifacts.read(Path("hi"), "translate"), artifacts.read(Path("hi/_rejected"))
    gold = labelled(37, 1)
    rows = {row["id"]: row for row in read.table.to_pylist()}
    assert len(rows) + rejected.table.num_rows == len(gold)
    assert {*rows, *rejected.table["id"].to_pylist()} == {row["id"] for row in gold}
    for row in gold:
        if row["id"] in rows:
            own = rows[row["id"]]
            assert own["label"] == row["label"]
            assert own["source_text"] == row["text"]
            assert (own["lang"], own["source_lang"]) == ("hi", "en")
            assert own["text"] == " ".join(DICTIONARY.get(word, word) for word in row["text"].split())
    assert set(rejected.table["reason"].to_pylist()) <= {"copy"}
    assert read.manifest.facts["target_language"] == "hi"
    assert 0 < read.manifest.facts["coverage"] < 1
    assert set(read.manifest.inputs) == {"rows", "model"}


def test_the_same_command_again_does_nothing(translate, files: Files, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    assert translate(files.gold, "hi").code == 0
    caplog.clear()
    assert translate(files.gold, "hi").code == 0
    assert "hi: already complete" in caplog.text
    refused = translate(files.gold, "hi", "--model.ratio=0.5")
    assert refused.code == 2
    assert "hi: holds another run (model.ratio: 1.0 -> 0.5)" in refused.err


def test_texts_that_a_draw_leaves_alone_stay_among_the_rows(translate, files: Files):
    known = [row for row in labelled(37, 1) if {*row["text"].split()} & {*DICTIONARY}]
    assert len(known) > 10
    write_jsonl(files.gold, known)
    for setting in ("sentence_ratio=0.5", "ratio=0.2"):
        outcome = translate(files.gold, setting, f"--model.{setting}")
        assert outcome.code == 0, outcome.err
        rows = artifacts.read(Path(setting)).table.to_pylist()
        assert [row["id"] for row in rows] == [row["id"] for row in known]
        assert {row["text"] == row["source_text"] for row in rows} == {True, False}


def test_a_premise_of_several_rows_is_translated_once(translate, tmp_path: Path):
    rows = [
        {"premise": "it was a good room", "hypothesis": text, "label": label, "lang": "en"}
        for text, label in (("the room was bad", "contradiction"), ("it was a room", "entailment"), ("it was very slow", "neutral"))
    ]  # fmt: skip
    outcome = translate(write_jsonl(tmp_path / "nli.jsonl", rows), "hi", "--config", "tasks/nli.yaml")
    assert outcome.code == 0, outcome.err
    read = artifacts.read(Path("hi"))
    assert read.manifest.facts["segments"] == 4
    assert read.manifest.facts["segments_saved"] == 2
    assert set(read.table["premise"].to_pylist()) == {"यह था a अच्छा कमरा"}
    assert read.table["hypothesis"].to_pylist() == ["the कमरा था बुरा", "यह था a कमरा", "यह था बहुत धीमा"]
    assert read.table["label"].to_pylist() == ["contradiction", "entailment", "neutral"]


def test_a_dictionary_serves_a_language_that_nobody_knows(
    translate, dictionary: Path, files: Files, caplog: pytest.LogCaptureFixture
):
    lexicon = json.dumps([{"path": str(dictionary), "columns": {"target": "hi"}}])
    words = ("--model.target_language=mai", f"--model.lexicon={lexicon}", "--data.gates=null")
    outcome = translate(files.gold, "mai", *words)
    assert outcome.code == 0, outcome.err
    rows = artifacts.read(Path("mai")).table.to_pylist()
    assert {row["lang"] for row in rows} == {"mai"}
    assert any("अच्छा" in row["text"] for row in rows)
    assert caplog.text.count("the script of 'mai' is not known") == 1
    assert caplog.text.count("the detector does not know 'mai'") == 1


def test_a_dictionary_in_the_other_direction_is_warned_of(
    translate, tmp_path: Path, files: Files, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "hi-en.txt"
    path.write_text("".join(f"{hi} {en}\n" for en, hi in DICTIONARY.items()), encoding="utf-8")
    wrong = translate(files.gold, "wrong", f'--model.lexicon=[{{"path": "{path}"}}]', "--data.gates.copy=false")
    assert wrong.code == 0, wrong.err
    assert "model.lexicon: it knows 0.0 % of the words" in caplog.text
    caplog.clear()
    told = f"--model.lexicon=[{{path: {path}, columns: {{source: second, target: first}}}}]"
    outcome = translate(files.gold, "right", told, "--data.gates.copy=false")
    assert outcome.code == 0, outcome.err
    assert artifacts.read_manifest(Path("right")).facts["coverage"] > 0.2
    assert "model.lexicon: it knows" not in caplog.text


def test_the_language_of_the_command_line_is_that_of_the_rows(translate, dictionary: Path, files: Files):
    refused = translate(files.gold, "mr", "--model.target_language=mr")
    assert refused.code == 2
    assert "no column mr or target or tgt among ['en', 'hi']" in refused.err
    dictionary.write_text(dictionary.read_text(encoding="utf-8").replace("en\thi\n", "en\tmr\n"), encoding="utf-8")
    outcome = translate(files.gold, "mr", "--model.target_language=mr")
    assert outcome.code == 0, outcome.err
    assert set(artifacts.read(Path("mr")).table["lang"].to_pylist()) == {"mr"}


def test_pool_rows_without_a_label_are_refused_as_gold(translate, files: Files):
    refused = translate(files.pool, "pool")
    assert refused.code == 2
    assert "no column 'label'" in refused.err
    assert translate(files.pool, "pool", "--data.label_column=prompt_label").code == 0


def test_a_translation_of_rows_that_were_made_anew_is_stale(translate, stages: Stages, files: Files):
    pool = (
        "clean",
        "--config",
        "clean.yaml",
        f"--raw.path={files.pool}",
        "--exclude=null",
        "--language=null",
        "--out=pool",
    )
    assert stages.cli(*pool).code == 0
    assert translate("pool", "hi", "--data.label_column=prompt_label").code == 0
    assert stages.cli(*pool, "--size=9", "--overwrite=true").code == 0
    refused = stages.select("--pool.path=hi", "--strategy=random", "--class_from=prompt", "--pseudolabels=null")
    assert refused.code == 2
    assert 'hi: out of date, rows pool has been made anew since; rebuild with "python main.py predict' in refused.err


def test_rows_in_another_language_than_the_source_are_refused(translate, files: Files):
    assert translate(files.gold, "hi").code == 0
    refused = translate("hi", "hi2")
    assert refused.code == 2
    assert "rows in ['hi'], expected en; say what they are in with --model.source_language" in refused.err


def test_rows_that_a_selection_loses_are_told_by_class(
    translate, stages: Stages, files: Files, caplog: pytest.LogCaptureFixture
):
    words = ("--strategy=random", "--class_from=prompt", "--pseudolabels=null", "--quota=8")
    assert stages.select(*words).code == 0
    outcome = translate("select", "hi", "--data.label_column=prompt_label")
    assert outcome.code == 0, outcome.err
    read = artifacts.read(Path("hi"))
    classes = read.manifest.facts["classes"]
    assert {label: sum(one.values()) for label, one in classes.items()} == dict.fromkeys(LABELS, 8)
    assert {label: one["kept"] for label, one in classes.items()} == {
        label: read.table["class"].to_pylist().count(label) for label in LABELS
    }
    short = {label: one for label, one in classes.items() if one["rejected"]}
    assert short
    for label, one in short.items():
        assert f"select: {label}: the selection's 8 rows are {one['kept']} in translation" in caplog.text
    rejected = sum(one["rejected"] for one in classes.values())
    assert (f"select: {rejected} of 24 rows were rejected" in caplog.text) == (rejected > 0.2 * 24)


def test_a_translation_that_loses_every_row_is_an_error(translate, tmp_path: Path, files: Files):
    path = tmp_path / "hi-en.txt"
    path.write_text("अच्छा good\n", encoding="utf-8")
    words = (f"--model.lexicon={json.dumps([{'path': str(path)}])}", "--data.gates.copy=false")
    for _ in range(2):  # again: the texts are not translated anew, and the answer is the same
        refused = translate(files.gold, "hi", *words, "--data.gates.script=0.5")
        assert refused.code == 2
        assert "hi: all 37 rows were rejected, {'script': 37}; look at them with" in refused.err
        assert "Traceback" not in refused.err
        assert not artifacts.is_whole(Path("hi"))
    assert artifacts.read(Path("hi/_rejected")).table.num_rows == 37
    assert translate(files.gold, "hi", "--overwrite=true").code == 0


@pytest.fixture
def echo(translate, tmp_path: Path):
    """A 'translation' that the tiny encoder still reads, for everything downstream."""
    path = tmp_path / "echo.tsv"
    path.write_text("en\thi\n" + "".join(f"{one}\t{two}\n" for one, two in ECHO.items()), encoding="utf-8")

    def run(rows: object, out: str, *words: object):
        gates = '--data.gates={"script": null, "language": false, "copy": false}'
        outcome = translate(rows, out, f'--model.lexicon=[{{"path": "{path}"}}]', gates, *words)
        assert outcome.code == 0, outcome.err
        return outcome

    return run


def test_translate_train_in_both_orders(echo, stages: Stages, files: Files):
    for part, rows in (("train", files.gold), ("dev", files.dev)):
        echo(rows, f"hi/{part}")
    echo(files.pool, "hi/pool", "--data.label_column=prompt_label")
    gold = ('--data.train={"path": "hi/train"}', '--data.dev={"path": "hi/dev"}', "--setting=translate-train")
    # Translate, then teach and select.
    assert stages.teacher(*gold).code == 0
    assert stages.pseudolabel("--data.pool.path=hi/pool").code == 0
    assert stages.select("--pool.path=hi/pool", "--class_from=prompt").code == 0
    outcome = stages.student(*gold)
    assert outcome.code == 0, outcome.err
    assert stages.test().code == 0
    assert artifacts.read_manifest(Path("test")).facts["setting"] == "translate-train"
    # Select in English, then translate only what was kept.
    for stage, words in ((stages.teacher, []), (stages.pseudolabel, ["--model.model=english/model"]),
                         (stages.select, ["--class_from=prompt", "--pseudolabels=english-pseudolabel"])):  # fmt: skip
        out = {stages.teacher: "english", stages.pseudolabel: "english-pseudolabel", stages.select: "english-select"}[
            stage
        ]
        assert stage(*words, f"--out={out}").code == 0
    echo("english-select", "hi/select", "--data.label_column=prompt_label")
    english, hindi = artifacts.read(Path("english-select")), artifacts.read(Path("hi/select"))
    assert hindi.table["probs"].equals(english.table["probs"])
    assert hindi.table["id"].equals(english.table["id"])
    outcome = stages.student(*gold, "--data.selection=hi/select", "--out=after")
    assert outcome.code == 0, outcome.err
    # A selection made anew makes its translation, and what was trained on it, stale.
    assert stages.select(
        "--class_from=prompt", "--pseudolabels=english-pseudolabel", "--out=english-select", "--quota=3", "--overwrite=true"
    ).code == 0  # fmt: skip
    refused = stages.student(*gold, "--data.selection=hi/select", "--out=after2")
    assert refused.code == 2
    assert "hi/select: out of date, rows english-select has been made anew since; rebuild with" in refused.err


def test_one_student_for_all_languages(echo, stages: Stages, files: Files):
    for part, rows in (("train", files.gold), ("dev", files.dev)):
        echo(rows, f"hi/{part}")
    echo(files.pool, "hi/pool", "--data.label_column=prompt_label")

    def both(english: Path, part: str) -> str:
        return json.dumps([{"path": str(english), "id_prefix": "en/"}, {"path": f"hi/{part}", "id_prefix": "hi/"}])

    gold = (f"--data.train={both(files.gold, 'train')}", f"--data.dev={both(files.dev, 'dev')}")
    setting = "--setting=translate-train-all"
    pool = both(files.pool, "pool")
    for outcome in (
        stages.teacher(*gold, setting),
        stages.pseudolabel(f"--data.pool={pool}"),
        stages.select(f"--pool={pool}", "--quota=12"),
        stages.student(*gold, setting),
        stages.test(),
    ):
        assert outcome.code == 0, outcome.err
    scored, kept = artifacts.read(Path("pseudolabel")).table, artifacts.read(Path("select")).table
    english = [row["id"] for row in labelled(50, 3, "prompt_label")]
    assert sorted(scored["id"].to_pylist()) == sorted([f"{lang}/{one}" for lang in ("en", "hi") for one in english])
    # A row and its translation are two rows, each with its own probabilities and language.
    assert {(one["id"][:2], one["lang"]) for one in kept.to_pylist()} == {("en", "en"), ("hi", "hi")}
    of_pool = dict(zip(scored["id"].to_pylist(), scored["probs"].to_pylist(), strict=True))
    assert [of_pool[row["id"]] for row in kept.to_pylist()] == kept["probs"].to_pylist()
    assert artifacts.read_manifest(Path("test")).facts["setting"] == "translate-train-all"


def test_a_union_without_prefixes_is_refused(echo, stages: Stages, files: Files):
    echo(files.gold, "hi/train")
    doubled = stages.teacher(f'--data.train=[{{"path": "{files.gold}"}}, {{"path": "hi/train"}}]', "--out=doubled")
    assert doubled.code == 2
    assert "duplicate id" in doubled.err


def test_targets_translated_into_english_lose_no_row(echo, stages: Stages, files: Files, tiny_classifier: Path):
    echo(files.target, "en", "--setting=translate-test", "--data.failing=keep")
    read = artifacts.read(Path("en"))
    assert read.table["id"].to_pylist() == [row["id"] for row in labelled(23, 4)]
    targets = '--data.targets={"en": {"path": "en"}}'
    assert stages.test(f"--model.model={tiny_classifier}", targets, "--setting=translate-test").code == 0
    assert artifacts.read_manifest(Path("test")).facts["setting"] == "translate-test"
    reported = stages.report()
    assert reported.code == 0, reported.err
    assert "translate-test" in reported.out
    refused = stages.teacher('--data.train={"path": "en"}')
    assert refused.code == 2
    assert "translated targets (setting translate-test), whose labels may not be trained on" in refused.err


def test_a_target_may_not_pose_as_the_dev_set_of_translated_gold(echo, stages: Stages, files: Files):
    echo(files.gold, "hi/train")
    write_jsonl(files.dev, [{**row, "lang": "hi"} for row in labelled(15, 2)])
    refused = stages.teacher('--data.train={"path": "hi/train"}')
    assert refused.code == 2
    assert "rows in ['hi'], which the gold was translated into, but no translation themselves" in refused.err


def test_a_sequence_to_sequence_model_by_its_folder(cli: Command, files: Files, tiny_nllb: Path):
    words = (
        "--model.model",
        tiny_nllb,
        "--model.num_beams=1",
        "--model.max_new_tokens=8",
        f"--data.rows.path={files.gold}",
    )
    outcome = cli(
        "predict", "--config", "translate.yaml", "--model=TransformersTranslator", "--model.target_language=hi", *words,
        "--data.gates=null", "--data.failing=keep", "--data.allow_empty=true", "--out=hi", *QUIET,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    kept = artifacts.read(Path("hi")).table
    assert kept["id"].to_pylist() == [row["id"] for row in labelled(37, 1)]
    assert set(kept["reason"].to_pylist()) & {"cut", "script", "length", "empty", "unknown"}


# --- kills, devices ---


@pytest.fixture
def killable(files: Files, tiny_nllb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Words of a translation by a model over many small batches, each on the disk as soon as it is finished."""
    monkeypatch.chdir(tmp_path)

    def words(out: str, *more: object) -> list[object]:
        return [
            "predict", "--config", "translate.yaml", "--model=TransformersTranslator", "--model.target_language=hi",
            "--model.model", tiny_nllb, "--model.num_beams=2", "--model.max_new_tokens=8", f"--data.rows.path={files.gold}",
            "--data.failing=keep", "--data.allow_empty=true", f"--out={out}", "--data.tokens_per_batch=30", "--rows.flush_seconds=0", *QUIET, *more,
        ]  # fmt: skip

    return words


def test_a_killed_translation_resumes_to_the_same_bits(killable, files: Files, tmp_path: Path):
    write_jsonl(files.gold, labelled(120, 1))
    assert warm.run(killable("whole"), tmp_path) == 0, warm.said(tmp_path)
    expected = artifacts.read_manifest(Path("whole")).fingerprint
    kills = random.Random(0).sample(range(1, 18), 8)
    lost = doubled = 0
    for batch in kills:
        out = f"killed-{batch}"
        kill = warm.probe("KillAt", batch=batch, hook="on_predict_batch_end")
        assert warm.run(killable(out, *kill), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
        assert not artifacts.is_whole(Path(out))
        assert warm.run(killable(out), tmp_path) == 0, warm.said(tmp_path)
        read = artifacts.read(Path(out))
        assert read.manifest.fingerprint == expected
        ids = read.table["id"].to_pylist()
        lost, doubled = lost + len({row["id"] for row in labelled(120, 1)} - {*ids}), doubled + len(ids) - len({*ids})
    print(f"{len(kills)} kills: {lost} rows lost, {doubled} rows doubled")
    assert (lost, doubled) == (0, 0)


@pytest.mark.parametrize("rows", [1, 40])
def test_a_translation_on_two_processes(killable, files: Files, tmp_path: Path, rows: int):
    write_jsonl(files.gold, labelled(rows, 1))
    assert warm.run(killable("one"), tmp_path) == 0, warm.said(tmp_path)
    two = ("--trainer.devices=2", "--trainer.strategy=ddp_fork")
    assert warm.run(killable("two", *two), tmp_path) == 0, warm.said(tmp_path)
    one, both = (artifacts.read(Path(name)).table for name in ("one", "two"))
    assert both.equals(one)
    assert both.num_rows == rows
