"""The additions to the paper's method, command by command, with tiny encoders."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import LABELS, Files, Outcome, Stages, labelled, write_jsonl
from safetensors.torch import load_file

from labelbridge.lightning_app.calibration.priors import bbse_prior, em_prior
from labelbridge.lightning_app.core import artifacts

pytestmark = pytest.mark.slow


def refused(outcome: Outcome, *parts: str) -> None:
    """One line on stderr, status 2."""
    assert outcome.code == 2, outcome
    last = outcome.err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    for part in parts:
        assert part in last, last


def facts_of(model: str) -> dict:
    return json.loads(Path(model, "labelbridge.json").read_text())


@pytest.fixture
def skewed(stages: Stages) -> Stages:
    """Gold of which half is negative: 21 negative, 8 neutral, 8 positive."""
    rows = [row for row in labelled(63, 1) if row["label"] == "negative" or int(row["id"].split("/")[1]) < 25]
    write_jsonl(stages.files.gold, rows)
    return stages


SHARES = np.array([21, 8, 8]) / 37


def probs_of(folder: str, column: str = "probs") -> np.ndarray:
    return np.array(artifacts.read(Path(folder)).table[column].to_pylist())


def test_an_exported_prior_is_that_of_the_report(skewed: Stages):
    """The bias is shifted once, after training: the same predictions as dividing afterwards, and in `pipeline`."""
    from transformers import pipeline

    assert skewed.teacher().code == 0
    assert skewed.teacher("--export.prior=uniform", "--out=uniform").code == 0
    assert skewed.test("--model.model=teacher/model", "--out=plain").code == 0
    assert skewed.test("--model.model=uniform/model", "--out=corrected").code == 0
    divided = probs_of("plain") / SHARES
    np.testing.assert_allclose(probs_of("corrected"), divided / divided.sum(axis=1, keepdims=True), atol=1e-5)
    plain, shifted = (load_file(f"{out}/model/model.safetensors") for out in ("teacher", "uniform"))
    shift = shifted["classifier.bias"] - plain["classifier.bias"]
    np.testing.assert_allclose(shift.numpy(), np.log(1 / 3) - np.log(SHARES), atol=1e-5)
    assert all(torch.equal(plain[name], shifted[name]) for name in plain if name != "classifier.bias")
    texts = [row["text"] for row in labelled(23, 4)]
    classify = pipeline("text-classification", model="uniform/model", top_k=None)
    for own, scores in zip(probs_of("corrected"), classify(texts), strict=True):
        by_label = {one["label"]: one["score"] for one in scores}
        assert [by_label[label] for label in LABELS] == pytest.approx(own, abs=1e-5)
    card = Path("uniform/model/README.md").read_text()
    assert "corrected to negative 0.333, neutral 0.333, positive 0.333 (uniform)" in card
    assert "class shares negative 0.568" in card


def test_a_corrected_model_is_not_corrected_again(skewed: Stages):
    assert skewed.teacher("--export.prior=uniform").code == 0
    assert skewed.test("--model.model=teacher/model").code == 0
    assert skewed.report("--prior=both").code == 0
    cells = json.loads(Path("report/report.json").read_text())["cells"]
    by_prior = {cell["prior"]: cell["mean"] for cell in cells if cell["metric"] == "accuracy"}
    assert by_prior["divided"] == by_prior["as_trained"]
    refused(
        skewed.pseudolabel("--model.prior=uniform"), "no longer predicts under the label prior of its gold (uniform)"
    )
    refused(skewed.cli("export", "--model=teacher/model", "--prior=uniform"), "would be divided out twice")
    refused(
        skewed.teacher("--export.prior=uniform", "--model.logit_adjustment=1", "--out=twice"),
        "export.prior is uniform", "(training)", "set one of the two to null or 0",
    )  # fmt: skip


def test_a_temperature_is_written_into_the_head(skewed: Stages):
    words = ("--export.choose=last",)
    assert skewed.teacher(*words).code == 0
    assert skewed.teacher(*words, "--export.temperature=true", "--export.prior=uniform", "--out=calibrated").code == 0
    facts = facts_of("calibrated/model")
    temperature = facts["temperature"]
    plain, scaled = (load_file(f"{out}/model/model.safetensors") for out in ("teacher", "calibrated"))
    torch.testing.assert_close(scaled["classifier.weight"], plain["classifier.weight"] / temperature)
    expected = plain["classifier.bias"] / temperature + torch.from_numpy(np.log(1 / 3 / SHARES)).float()
    torch.testing.assert_close(scaled["classifier.bias"], expected)
    assert temperature not in (0, 1)
    assert sum(map(sum, facts["dev_confusion"])) == 15
    accuracy = sum(row[number] for number, row in enumerate(facts["dev_confusion"])) / 15
    assert accuracy == pytest.approx(facts["dev"]["dev/accuracy"])


def test_a_prior_needs_gold_of_every_class(stages: Stages):
    write_jsonl(stages.files.gold, [row for row in labelled(37, 1) if row["label"] != "neutral"])
    refused(stages.teacher("--export.prior=uniform"), "export.prior is uniform, but gold has no row of 'neutral'")
    assert not Path("teacher/identity.json").exists()
    refused(stages.teacher("--model.logit_adjustment=1"), "data.train: rows per class [13, 0, 12]")
    assert not Path("teacher/identity.json").exists()


def test_corrected_pseudolabels_keep_the_raw_ones(skewed: Stages):
    assert skewed.teacher().code == 0
    assert skewed.pseudolabel("--out=raw").code == 0
    assert skewed.pseudolabel("--model.prior=uniform").code == 0
    np.testing.assert_allclose(probs_of("pseudolabel", "raw_probs"), probs_of("raw"), atol=1e-7)
    divided = probs_of("raw") / SHARES
    corrected = probs_of("pseudolabel")
    np.testing.assert_allclose(corrected, divided / divided.sum(axis=1, keepdims=True), atol=1e-7)
    table = artifacts.read(Path("pseudolabel")).table
    assert [LABELS[row.argmax()] for row in corrected] == table["prediction"].to_pylist()
    assert skewed.select("--quota=3", "--allow_empty=true", "--pseudolabels=raw", "--out=uncorrected").code == 0
    facts = artifacts.read_manifest(Path("uncorrected")).facts
    assert facts["gold_counts"] == {"negative": 21, "neutral": 8, "positive": 8}
    assert "label_prior" not in facts
    assert skewed.select("--quota=3", "--allow_empty=true").code == 0
    refused(skewed.student("--model.synthetic_logit_adjustment=1"), "data.selection: ", "has nothing to adjust")
    by_id = dict(zip(table["id"].to_pylist(), corrected, strict=True))
    for row in artifacts.read(Path("select")).table.to_pylist():  # classes and labels are the corrected ones
        assert row["probs"] == pytest.approx(by_id[row["id"]])
        assert row["class"] == LABELS[by_id[row["id"]].argmax()]


def test_a_model_of_unknown_prior_needs_one(stages: Stages, tiny_classifier: Path):
    model = f"--model.model={tiny_classifier}"
    refused(stages.pseudolabel(model, "--model.prior=uniform"), "records no gold rows per class", "model.source_prior")
    given = '--model.source_prior={"negative": 0.5, "neutral": 0.25, "positive": 0.25}'
    assert stages.pseudolabel(model, "--model.prior=uniform", given).code == 0
    raw, probs = probs_of("pseudolabel", "raw_probs"), probs_of("pseudolabel")
    divided = raw / np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(probs, divided / divided.sum(axis=1, keepdims=True), atol=1e-7)
    refused(stages.teacher("--model.prior=uniform"), "model.prior is uniform in fit", "export.prior")


def test_logit_adjustment_changes_the_fit_and_is_recorded(skewed: Stages):
    assert skewed.teacher().code == 0
    assert skewed.teacher("--model.logit_adjustment=1", "--out=adjusted").code == 0
    assert skewed.teacher("--model.class_weighting=1", "--out=weighted").code == 0
    assert skewed.teacher("--data.class_balanced=true", "--out=balanced").code == 0
    folders = ("teacher", "adjusted", "weighted", "balanced")
    assert len({artifacts.read_manifest(Path(folder)).fingerprint for folder in folders}) == 4
    assert "label_prior" not in facts_of("teacher/model")
    assert facts_of("adjusted/model")["label_prior"] == {"how": "training", "logit_adjustment": 1.0}
    assert facts_of("balanced/model")["label_prior"] == {"how": "class-balanced dealing"}
    assert artifacts.read_manifest(Path("adjusted")).config["model"]["logit_adjustment"] == 1.0
    assert "trained against the label prior of its gold (training)" in Path("adjusted/model/README.md").read_text()


def test_gold_that_is_dealt_class_by_class_has_no_shares_to_correct(skewed: Stages):
    balanced = ("--data.class_balanced=true", "--model.logit_adjustment=1")
    refused(skewed.teacher(*balanced), "data.class_balanced leaves no shares of gold", "model.logit_adjustment and")
    assert not Path("teacher/model").exists()


def test_the_student_takes_every_correction(loop: Stages):
    """Each changes the weights, and nothing else needs to change."""
    prompt = "--model.synthetic_labels=prompt"
    methods = {
        "plain": [],
        "soft": ["--model.synthetic_logit_adjustment=1"],
        "unsure": ["--model.min_confidence=0.9"],
        "prompt": [prompt],
        "weighted": [prompt, "--model.importance_clip=2"],
        "gce": [prompt, "--model.gce_q=0.7"],
        "smooth": [prompt, "--model.label_smoothing=0.1"],
    }
    prints = set()
    for method, words in methods.items():
        outcome = loop.student(f"--out={method}", *words)
        assert outcome.code == 0, outcome.err
        prints.add(artifacts.read_manifest(Path(method)).fingerprint)
    assert len(prints) == len(methods)
    counts = facts_of("prompt/model")["synthetic_counts"]
    assert counts == artifacts.read_manifest(Path("select")).facts["prompt_labels"] | {
        label: 0 for label in LABELS if label not in artifacts.read_manifest(Path("select")).facts["prompt_labels"]
    }
    refused(loop.student("--model.gce_q=0.7", "--out=x"), "model.gce_q is 0.7 with model.synthetic_labels teacher")
    refused(loop.student("--model.importance_clip=2", "--out=x"), "model.importance_clip is 2.0", "expected prompt")


def test_weights_from_a_teacher_need_its_probabilities(stages: Stages):
    by_prompt = ("--strategy=random", "--class_from=prompt", "--pseudolabels=null")
    assert stages.select(*by_prompt).code == 0
    refused(
        stages.student("--model.synthetic_labels=prompt", "--model.importance_clip=2"),
        "data.selection: selected without a teacher",
    )


@pytest.fixture
def translated(stages: Stages, files: Files) -> Stages:
    """The gold and the dev set translated word by word, in `hi/gold` and `hi/dev`."""
    words = {"good": "accha", "bad": "bura", "the": "vah", "and": "aur", "great": "mahaan", "room": "kamra"}
    Path("lexicon.tsv").write_text("en\thi\n" + "".join(f"{one}\t{other}\n" for one, other in words.items()))
    for part, file in (("gold", files.gold), ("dev", files.dev)):
        outcome = stages.cli(
            "predict", "--config", "translate.yaml", f"--data.rows.path={file}", f"--out=hi/{part}",
            '--model.lexicon=[{"path": "lexicon.tsv"}]', "--trainer.logger=false", "--trainer.enable_progress_bar=false",
            "--trainer.accelerator=cpu",
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
    return stages


def test_consistency_with_translations(translated: Stages):
    assert translated.teacher().code == 0
    outcome = translated.teacher("--model.consistency=1", "--data.views=hi/gold", "--out=consistent")
    assert outcome.code == 0, outcome.err
    prints = [artifacts.read_manifest(Path(out)) for out in ("teacher", "consistent")]
    assert prints[0].fingerprint != prints[1].fingerprint
    assert prints[1].inputs["views"]["paths"] == ["hi/gold"]
    refused(
        translated.teacher("--model.consistency=1", "--out=x"), "model.consistency is 1.0, but data.views is not given"
    )
    refused(translated.teacher("--data.views=hi/dev", "--out=x"), "no id of a training row")
    refused(translated.teacher("--data.views=nowhere", "--out=x"), "data.views nowhere: no such artifact")


def test_a_translated_dev_set_may_choose_the_checkpoint(translated: Stages, files: Files):
    assert translated.teacher("--data.dev.path=hi/dev").code == 0
    write_jsonl(files.dev, [{**row, "lang": "hi"} for row in labelled(15, 2)])
    refused(translated.teacher("--out=target"), "language ['hi'] is not the gold's ['en']", "so it is a target")


def test_dev_rows_that_are_trained_on_are_named(translated: Stages, files: Files, caplog: pytest.LogCaptureFixture):
    n_gold = len(Path(files.gold).read_text().splitlines())
    n_translated = artifacts.read(Path("hi/gold")).table.num_rows
    for folder, n_rows, out in ((files.gold, n_gold, "same"), ("hi/gold", n_translated, "other_language")):
        caplog.clear()
        assert translated.teacher(f"--data.dev.path={folder}", f"--out={out}").code == 0
        assert f"{n_rows} of {n_rows} rows are training rows, or translations of them" in caplog.text
    caplog.clear()
    assert translated.teacher("--data.dev.path=hi/dev", "--out=plain").code == 0
    assert "training rows" not in caplog.text


def test_a_target_that_was_translated_away_and_back_stays_a_target(translated: Stages):
    """hi -> en -> hi: the labels are a target's, whatever the last artifact says."""
    read = artifacts.read(Path("hi/dev"))
    inputs: dict[str, dict[str, str]] = {}
    for source, target, out in (("hi", "en", "away"), ("en", "hi", "back")):
        languages = pa.array([target] * read.table.num_rows)
        table = read.table.set_column(read.table.column_names.index("lang"), "lang", languages)
        facts = {**read.manifest.facts, "source_language": source, "target_language": target}
        manifest = artifacts.write(Path(out), table, stage="translate", inputs=inputs, facts=facts)
        inputs = {"rows": artifacts.reference(Path(out), manifest)}
    refused(translated.teacher("--data.dev.path=back", "--out=x"), "language ['hi'] is not the gold's ['en']")


def test_the_mean_of_several_runs(stages: Stages):
    one_head = "--model.head_seed=5"
    for seed in (0, 1):
        assert stages.teacher(f"--seed_everything={seed}", f"--out=run{seed}", one_head).code == 0
    assert stages.cli("export", "--average=[run0, run1/model]", "--out=mean").code == 0
    weights = [load_file(f"{run}/model/model.safetensors") for run in ("run0", "run1")]
    for name, value in load_file("mean/model.safetensors").items():
        torch.testing.assert_close(value, (weights[0][name].double() + weights[1][name].double()).div(2).float())
    facts = facts_of("mean")
    assert [run["seed"] for run in facts["averaged"]] == [0, 1]
    assert "dev" not in facts
    assert "mean of the weights of 2 runs" in Path("mean/README.md").read_text()
    assert stages.test("--model.model=mean").code == 0
    refused(stages.cli("export", "--average=[run0]", "--out=x"), "expected two or more different runs")
    refused(stages.cli("export", "--average=[run0, data]", "--out=x"), "average data: no labelbridge.json")
    assert not Path("x").exists()


def test_runs_with_different_heads_are_warned_of(stages: Stages, caplog: pytest.LogCaptureFixture):
    for seed in (0, 1):
        assert stages.teacher(f"--seed_everything={seed}", f"--out=run{seed}").code == 0
    assert stages.cli("export", "--average=[run0, run1]", "--out=mean").code == 0
    assert "the heads of these runs started from different weights (seeds 0, 1)" in caplog.text


@pytest.mark.parametrize("method", ["em", "bbse"])
def test_a_prior_estimated_on_unlabelled_text(skewed: Stages, method: str):
    """Transductive: said on the card, and the text may not be tested on."""
    texts = write_jsonl(Path("texts.jsonl"), [{"id": row["id"], "text": row["text"]} for row in labelled(60, 8)])
    assert skewed.teacher().code == 0
    confusion = np.array([[8, 1, 1], [1, 6, 3], [0, 2, 8]])
    Path("teacher/model/labelbridge.json").write_text(
        json.dumps({**facts_of("teacher/model"), "dev_confusion": confusion.tolist()})
    )
    predicted = ("--data.prompt_labels=false", f"--data.pool.path={texts}", "--out=unlabelled")
    assert skewed.pseudolabel(*predicted).code == 0
    outcome = skewed.cli(
        "export", "--model=teacher/model", f"--prior={method}", "--target=unlabelled", "--out=estimated"
    )
    assert outcome.code == 0, outcome.err
    prior = facts_of("estimated")["label_prior"]
    assert prior["how"] == method
    probs = probs_of("unlabelled")
    if method == "em":
        expected = em_prior(probs, SHARES, LABELS).prior_C
    else:
        expected = bbse_prior(confusion, np.bincount(probs.argmax(axis=1), minlength=3), LABELS).prior_C
    shares = np.maximum(expected, 1e-6)  # a class that is ruled out gets a finite bias
    assert list(prior["target"].values()) == pytest.approx((shares / shares.sum()).tolist())
    assert "(transductive)" in Path("estimated/README.md").read_text()
    plain, shifted = (load_file(f"{model}/model.safetensors") for model in ("teacher/model", "estimated"))
    shift = [np.log(prior["target"][label] / prior["source"][label]) for label in LABELS]
    np.testing.assert_allclose(shifted["classifier.bias"] - plain["classifier.bias"], shift, atol=1e-5)
    rows = write_jsonl(Path("seen.jsonl"), labelled(60, 8)[:5])
    seen = skewed.test("--model.model=estimated", f'--data.targets={{"en": {{"path": "{rows}"}}}}')
    refused(seen, "is among unlabelled, which the label prior of estimated looked at (5 such rows)")
    assert skewed.test("--model.model=estimated").code == 0


def test_an_estimate_needs_predictions_of_this_model(skewed: Stages, tiny_classifier: Path):
    assert skewed.teacher().code == 0
    export = ("export", "--model=teacher/model", "--prior=em", "--out=x")
    refused(skewed.cli(*export), "prior em: target is not given", "--data.prompt_labels false")
    assert skewed.pseudolabel(f"--model.model={tiny_classifier}", "--out=other").code == 0
    refused(skewed.cli(*export, "--target=other"), "target other: predictions of", "expected those of teacher/model")
    refused(
        skewed.cli("export", "--model=teacher/model", "--prior=uniform", "--target=other", "--out=x"),
        "expected none without --prior em or bbse",
    )
    assert not Path("x").exists()
    assert not list(Path().glob(".x*"))


def test_rows_whose_probability_varies_least_under_dropout(loop: Stages):
    texts = write_jsonl(
        Path("texts.jsonl"), [{"id": f"t{n}", "text": row["text"]} for n, row in enumerate(labelled(60, 8))]
    )
    words = ("--model.model=student/model", "--data.prompt_labels=false", f"--data.pool.path={texts}")
    found = {}
    for out, more in {
        "plain": (),
        "one": ("--model.dropout_passes=4",),
        "small": ("--model.dropout_passes=4", "--data.tokens_per_batch=64"),
    }.items():
        outcome = loop.pseudolabel(*words, *more, f"--out={out}")
        assert outcome.code == 0, outcome.err
        found[out] = {row["id"]: row for row in artifacts.read(Path(out)).table.to_pylist()}
    assert "dropout_deviations" not in found["plain"]["t0"]
    for name, row in found["one"].items():
        assert row["probs"] == pytest.approx(found["plain"][name]["probs"], abs=1e-6)
        assert row["dropout_deviations"] == pytest.approx(found["small"][name]["dropout_deviations"], abs=1e-6)
    select = (
        "select", "--config", "select.yaml", f"--pool.path={texts}", "--prompt_labels=false", "--strategy=steady",
        "--quota=5", "--allow_empty=true",
    )  # fmt: skip
    outcome = loop.cli(*select, "--pseudolabels=one", "--out=steady")
    assert outcome.code == 0, outcome.err
    for row in artifacts.read(Path("steady")).table.to_pylist():
        place = LABELS.index(row["class"])
        assert row["score"] == pytest.approx(-found["one"][row["id"]]["dropout_deviations"][place], abs=1e-6)
    refused(loop.cli(*select, "--pseudolabels=plain", "--out=x"), "make them with --model.dropout_passes 10")
    refused(loop.test("--model.model=student/model", "--model.dropout_passes=4", "--out=x"), "it serves predict")


def test_self_training_on_unlabelled_text(loop: Stages):
    """A student pseudolabels target text, its most certain rows train the next one; the text may not be tested on."""
    texts = write_jsonl(
        Path("texts.jsonl"), [{"id": f"t{n}", "text": row["text"]} for n, row in enumerate(labelled(60, 8))]
    )
    words = ("--data.prompt_labels=false", f"--data.pool.path={texts}", "--out=round1/pseudolabel")
    assert loop.pseudolabel("--model.model=student/model", *words).code == 0
    select = (
        "select", "--config", "select.yaml", f"--pool.path={texts}", "--pseudolabels=round1/pseudolabel",
        "--prompt_labels=false", "--strategy=certain", "--quota=5", "--out=round1/select", "--allow_empty=true",
    )  # fmt: skip
    outcome = loop.cli(*select)
    assert outcome.code == 0, outcome.err
    selected = artifacts.read(Path("round1/select"))
    entropy = {
        row["id"]: -sum(p * np.log(p) for p in row["probs"] if p)
        for row in artifacts.read(Path("round1/pseudolabel")).table.to_pylist()
    }
    assert "prompt_label" not in selected.table.column_names
    for row in selected.table.to_pylist():
        assert row["score"] == pytest.approx(-entropy[row["id"]], abs=1e-5)
    outcome = loop.student(
        "--data.selection=round1/select", "--model.synthetic_labels=teacher_hard", "--out=round1/student"
    )
    assert outcome.code == 0, outcome.err
    rows = write_jsonl(Path("seen.jsonl"), labelled(60, 8)[:5])
    seen = loop.test("--model.model=round1/student/model", f'--data.targets={{"en": {{"path": "{rows}"}}}}', "--out=x")
    refused(seen, "is among round1/pseudolabel, which selection round1/select looked at (5 such rows)")
    assert loop.test("--model.model=round1/student/model", "--out=round1/test").code == 0
    refused(
        loop.student("--data.selection=round1/select", "--model.synthetic_labels=prompt", "--out=x"),
        "selected from unlabelled text", "expected 'teacher' or 'teacher_hard'",
    )  # fmt: skip
    refused(loop.cli(*select, "--agreement=true", "--out=x"), "agreement: given with prompt_labels false")


def test_several_teachers_are_averaged(loop: Stages):
    assert loop.teacher("--seed_everything=1", "--out=second").code == 0
    assert loop.pseudolabel("--model.model=second/model", "--out=alone").code == 0
    assert loop.pseudolabel("--model.ensemble=[second/model]", "--out=both").code == 0
    expected = (probs_of("pseudolabel") + probs_of("alone")) / 2
    np.testing.assert_allclose(probs_of("both"), expected, atol=1e-6)
    table = artifacts.read(Path("both"))
    assert table.table["prediction"].to_pylist() == [LABELS[row.argmax()] for row in probs_of("both")]
    assert table.manifest.inputs["teacher.2"]["paths"] == ["second/model"]
    assert loop.select("--pseudolabels=both", "--out=x").code == 0
    refused(loop.teacher("--model.ensemble=[second/model]", "--out=y"), "model.ensemble is", "serves predict and test")
    refused(
        loop.pseudolabel(f"--model.ensemble=[{loop.encoder}]", "--out=y"),
        "a bare encoder, expected a fine-tuned classifier",
    )


def test_conformal_sets_are_calibrated_on_dev_and_measured_on_targets(stages: Stages):
    assert stages.teacher("--export.conformal_alpha=0.2").code == 0
    threshold = facts_of("teacher/model")["conformal"]["threshold"]
    assert stages.test("--model.model=teacher/model").code == 0
    metrics = json.loads(Path("test", artifacts.METRICS).read_text())["en"]
    table = artifacts.read(Path("test")).table.to_pylist()
    holds = [row["probs"][LABELS.index(row["label"])] >= threshold for row in table]
    assert metrics["conformal_coverage"] == pytest.approx(np.mean(holds))
    assert metrics["conformal_size"] == pytest.approx((probs_of("test") >= threshold).sum(axis=1).mean())
    assert 0 <= metrics["aurc"] <= 1
    refused(stages.teacher("--export.conformal_alpha=2", "--out=x"), "export.conformal_alpha is 2.0")


def test_what_is_said_of_a_head_does_not_outlive_it(skewed: Stages):
    """Sets and a temperature belong to the exported head: not to one with another prior, nor to a mean of models."""
    head = ("--export.conformal_alpha=0.2", "--export.temperature=true", "--model.head_seed=5")
    assert skewed.teacher(*head).code == 0
    assert skewed.test("--model.model=teacher/model").code == 0
    metrics = json.loads(Path("test", artifacts.METRICS).read_text())["en"]
    assert skewed.test("--model.model=teacher/model", "--model.prior=uniform", "--out=uniform").code == 0
    uniform = json.loads(Path("uniform", artifacts.METRICS).read_text())["en"]
    for name in ("conformal_coverage", "conformal_size", "ece_without_temperature"):  # of the head, whatever the prior
        assert uniform[name] == pytest.approx(metrics[name], abs=1e-6)
    assert skewed.teacher("--export.conformal_alpha=0.2", "--model.head_seed=5", "--out=plain").code == 0
    assert skewed.test("--model.model=plain/model", "--out=plain/test").code == 0
    cold = json.loads(Path("plain/test", artifacts.METRICS).read_text())["en"]
    assert metrics["ece_without_temperature"] == pytest.approx(cold["ece"], abs=1e-5)
    assert "ece_without_temperature" not in cold
    assert skewed.cli("export", "--model=plain/model", "--prior=uniform", "--out=shifted").code == 0
    assert "conformal" not in facts_of("shifted")
    second = ("--export.conformal_alpha=0.2", "--model.head_seed=5", "--seed_everything=1", "--out=second")
    assert skewed.teacher(*second).code == 0
    assert skewed.cli("export", "--average=[plain, second]", "--out=mean").code == 0
    assert "conformal" not in facts_of("mean")
    assert facts_of("mean")["gold_counts"] == facts_of("plain/model")["gold_counts"]
    ensemble = ("--model.model=plain/model", "--model.ensemble=[second/model]", "--out=ensemble")
    assert skewed.test(*ensemble).code == 0
    assert "conformal_coverage" not in json.loads(Path("ensemble", artifacts.METRICS).read_text())["en"]
