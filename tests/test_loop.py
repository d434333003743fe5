"""The whole loop, command by command, with tiny encoders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT, Outcome, Stages, labelled, write_jsonl

from labelbridge.lightning_app.core import artifacts


def test_the_loop_ends_in_a_report(loop: Stages):
    cells = json.loads(Path("report/report.json").read_text())["cells"]
    assert [(cell["method"], cell["target"], cell["prior"], cell["rows"]) for cell in cells] == [
        ("T-top-k", "en", "as_trained", 23),
        ("T-top-k", "en", "divided", 23),
    ]


def test_a_report_takes_one_pattern_as_it_stands(loop: Stages):
    assert loop.cli("report", "--runs", "te*t", "--out=again").code == 0
    assert Path("again/report.md").read_text() == Path("report/report.md").read_text()


def test_a_report_is_always_rewritten(loop: Stages):
    assert loop.report("--metric=[accuracy,macro_f1]", "--prior=both", "--baseline=[T-top-k]").code == 0
    text = Path("report/report.md").read_text()
    assert "## sentiment, zero-shot: macro-F1, gold prior divided out" in text
    assert loop.report().code == 0
    assert "macro-F1" not in Path("report/report.md").read_text()


def test_a_report_does_not_replace_another_stage(loop: Stages):
    outcome = loop.cli("report", "--runs=[test]", "--out=student")
    assert outcome.code == 2
    assert "student: holds another run" in outcome.err
    assert artifacts.is_whole(Path("student"))


def test_the_pipeline_reproduces_the_test_predictions(loop: Stages):
    from transformers import pipeline

    assert loop.test("--trainer.precision=32-true", "--out=exact").code == 0  # the pipeline's, whatever this CPU has
    tested = artifacts.read(Path("exact"), "test").table.to_pylist()
    texts = {row["id"]: row["text"] for row in labelled(23, 4)}
    classify = pipeline("text-classification", model="student/model", top_k=None)
    for row, all_scores in zip(tested, classify([texts[row["id"]] for row in tested]), strict=True):
        scores = {one["label"]: one["score"] for one in all_scores}
        assert max(scores, key=scores.get) == row["prediction"]
        assert [scores[label] for label in ("negative", "neutral", "positive")] == pytest.approx(row["probs"], abs=1e-5)


def test_the_pipeline_reproduces_the_test_predictions_of_pairs(stages: Stages):
    """Rows of two texts, one pair longer than the model's longest input."""
    from transformers import pipeline

    labels = ["entailment", "neutral", "contradiction"]
    pairs = [
        {"id": row["id"], "premise": row["text"], "hypothesis": other["text"], "label": labels[number % 3]}
        for number, (row, other) in enumerate(zip(labelled(24, 5), labelled(24, 6), strict=True))
    ]
    pairs[3]["premise"] = "the " * 40
    files = stages.files
    for path in (files.gold, files.dev, files.target):
        write_jsonl(path, pairs)
    nli = ("--config", "tasks/nli.yaml", "--data.max_length=16")
    assert stages.teacher(*nli).code == 0
    exact = "--trainer.precision=32-true"  # the pipeline's, whatever this CPU has
    assert stages.test(*nli, "--model.model=teacher/model", exact).code == 0
    classify = pipeline("text-classification", model="teacher/model", top_k=None)
    texts = [{"text": row["premise"], "text_pair": row["hypothesis"]} for row in pairs]
    scores = classify(texts, truncation=True, max_length=16)
    for row, own in zip(artifacts.read(Path("test")).table.to_pylist(), scores, strict=True):
        by_label = {one["label"]: one["score"] for one in own}
        assert [by_label[label] for label in labels] == pytest.approx(row["probs"], abs=1e-5)


def test_each_target_is_told_how_well_the_tokenizer_knows_it(loop: Stages, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    strange = write_jsonl(Path("hi.jsonl"), [{"text": "यह बहुत अच्छा है", "label": "positive"}])
    targets = f'{{"en": {{"path": "{loop.files.target}"}}, "hi": {{"path": "{strange}"}}}}'
    assert loop.test(f"--data.targets={targets}", "--out=both").code == 0
    assert "en: 23 rows, 0 truncated, 0.0 % unknown tokens" in caplog.text
    assert "hi: 100 % of its tokens are unknown to the tokenizer" in caplog.text
    rows = artifacts.read(Path("both")).table.to_pylist()
    assert [row["target"] for row in rows] == ["en"] * 23 + ["hi"]
    alone = artifacts.read(Path("test")).table.to_pylist()
    assert [row["probs"] for row in rows[:23]] == [pytest.approx(row["probs"], abs=1e-5) for row in alone]


def test_rows_are_cut_to_what_the_model_can_take(stages: Stages, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    write_jsonl(
        stages.files.gold, [*labelled(9, 1), {"id": "long", "text": "good " * 99, "label": "positive", "lang": "en"}]
    )
    assert stages.teacher("--data.max_length=1000").code == 0
    assert "train: 10 rows, 1 truncated" in caplog.text
    assert json.loads(Path("teacher/model/labelbridge.json").read_text())["max_length"] == 64


def test_predictions_carry_the_gold_counts_and_the_dev_accuracy_of_their_model(loop: Stages):
    """Of 37 gold rows with labels in turn; the selection does not count."""
    counts = {"negative": 13, "neutral": 12, "positive": 12}
    card = json.loads(Path("student/model/labelbridge.json").read_text())
    facts = artifacts.read_manifest(Path("test")).facts
    assert card["gold_counts"] == facts["gold_counts"] == counts
    assert facts["dev"] == card["dev"]
    assert 0 <= facts["dev"]["dev/accuracy"] <= 1


def test_kept_columns_of_a_target_reach_the_predictions(loop: Stages):
    rows = [{**row, "domain": "tweets" if number % 2 else "news"} for number, row in enumerate(labelled(23, 4))]
    file = write_jsonl(Path("domains.jsonl"), rows)
    assert loop.test(f'--data.targets={{"en": {{"path": "{file}", "keep": ["domain"]}}}}', "--out=split").code == 0
    assert artifacts.read(Path("split")).table["domain"].to_pylist() == [row["domain"] for row in rows]


def test_a_target_may_not_keep_a_column_that_a_test_writes(loop: Stages):
    file = write_jsonl(Path("probs.jsonl"), [{**row, "probs": 1.0} for row in labelled(23, 4)])
    outcome = loop.test(f'--data.targets={{"en": {{"path": "{file}", "keep": ["probs"]}}}}', "--out=split")
    assert outcome.code == 2
    assert "data.targets.en.keep: 'probs' is a column of the predictions" in outcome.err


def test_lineage_leads_from_the_predictions_to_the_pool(loop: Stages):
    selected = artifacts.read_manifest(Path("select"))
    student = artifacts.read_manifest(Path("student"))
    assert student.lineage["pool"] == selected.lineage["pool"]
    assert student.lineage["pseudolabels"] == artifacts.read_manifest(Path("pseudolabel")).fingerprint
    assert artifacts.read_manifest(Path("test")).lineage["model"] == student.fingerprint


@pytest.mark.slow
def test_a_whole_stage_says_so_and_writes_nothing(loop: Stages, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    for folder, stage in (("teacher", loop.teacher), ("pseudolabel", loop.pseudolabel), ("select", loop.select),
                          ("student", loop.student), ("test", loop.test)):  # fmt: skip
        before = (Path(folder) / "_manifest.json").stat().st_mtime_ns
        caplog.clear()
        assert stage().code == 0
        assert f"{folder}: already complete" in caplog.text
        assert (Path(folder) / "_manifest.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits(loop: Stages):
    folders = ("teacher", "pseudolabel", "select", "student", "test")
    before = [artifacts.read_manifest(Path(folder)).fingerprint for folder in folders]
    for stage in (loop.teacher, loop.pseudolabel, loop.select, loop.student, loop.test):
        assert stage("--overwrite=true").code == 0
    assert [artifacts.read_manifest(Path(folder)).fingerprint for folder in folders] == before
    report = Path("report/report.json").read_bytes()
    assert loop.report("--overwrite=true").code == 0
    assert Path("report/report.json").read_bytes() == report


@pytest.mark.slow
def test_another_process_gives_the_same_bits(loop: Stages, monkeypatch: pytest.MonkeyPatch):
    """With another seed of Python's hashes, which orders sets."""
    folders = ("teacher", "pseudolabel", "select", "student", "report")
    before = [artifacts.read_manifest(Path(folder)).fingerprint for folder in folders]

    def in_a_process(*words: object) -> Outcome:
        environment = {**os.environ, "PYTHONHASHSEED": "1"}
        command = [sys.executable, str(PROJECT / "main.py"), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        return Outcome(done.returncode, done.stdout, done.stderr)

    monkeypatch.setattr(loop, "cli", in_a_process)
    for folder in folders:
        outcome = getattr(loop, folder)("--overwrite=true")
        assert outcome.code == 0, outcome.err
    assert [artifacts.read_manifest(Path(folder)).fingerprint for folder in folders] == before


@pytest.mark.slow
def test_the_loop_runs_on_xlm_roberta(cli, files, tiny_xlmr: Path):
    loop = Stages(cli, files, tiny_xlmr)
    write_jsonl(files.target, [{"text": "यह बहुत अच्छा है", "label": "positive", "lang": "hi"}])
    for stage in (loop.teacher, loop.pseudolabel, loop.select, loop.student, loop.test, loop.report):
        outcome = stage()
        assert outcome.code == 0, outcome.err
    assert artifacts.read(Path("test")).table["id"].to_pylist() == ["data/target/0"]


@pytest.mark.slow
def test_every_method_of_the_paper_is_a_configuration(stages: Stages):
    assert stages.teacher().code == 0
    assert stages.pseudolabel().code == 0
    assert stages.select().code == 0
    assert stages.select("--strategy=random", "--class_from=prompt", "--pseudolabels=null", "--out=by-prompt").code == 0
    methods = {
        "SRC+GEN": ["--data.selection=by-prompt", "--model.synthetic_labels=prompt"],
        "GEN": ["--data.selection=by-prompt", "--model.synthetic_labels=prompt", "--data.train=[]"],
        "T_pl": ["--model.synthetic_labels=prompt"],
        "T-hard": ["--model.synthetic_labels=teacher_hard"],
        "released": ["--model.objective=released"],
    }
    fingerprints = set()
    for method, words in methods.items():
        outcome = stages.student(f"--method={method}", f"--out={method}", *words)
        assert outcome.code == 0, outcome.err
        fingerprints.add(artifacts.read_manifest(Path(method)).fingerprint)
    assert len(fingerprints) == len(methods)


def test_tensorboard_shows_the_scalars_of_a_fit(loop: Stages):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert loop.student("--out=logged", "--trainer.logger=true", "--trainer.log_every_n_steps=1").code == 0
    events = EventAccumulator("logged/_logs")
    events.Reload()
    assert {
        "dev/accuracy", "dev/macro_f1", "dev/ece", "dev/loss", "train/loss", "train/ce", "train/kl", "train/gold_rows",
        "train/synthetic_rows", "train/learning_rate", "throughput/rows_per_s", "throughput/tokens_per_s",
        "throughput/padding_share", "values/train/rows", "values/train/truncated", "values/train/unknown_rate",
        "values/train/tokens_per_word", "values/dev/rows", "values/selection/rows",
    } <= set(events.Tags()["scalars"])  # fmt: skip
    assert sum(one.value for one in events.Scalars("train/gold_rows")) == 2 * 37  # twice, in two epochs
    kept = artifacts.read_manifest(Path("select")).rows
    assert sum(one.value for one in events.Scalars("train/synthetic_rows")) == 2 * kept


def test_validate_scores_the_exported_model_as_fit_did(loop: Stages):
    facts = json.loads(Path("student/model/labelbridge.json").read_text())
    outcome = loop.cli(
        "validate", "--config", "validate.yaml", "--model.model=student/model", f"--data.dev.path={loop.files.dev}",
        "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false",
    )  # fmt: skip
    assert outcome.code == 0
    assert str(facts["dev"]["dev/accuracy"])[:6] in outcome.out
