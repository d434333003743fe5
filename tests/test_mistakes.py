"""Every mistake in the input is one line that names place, value and remedy, with exit status 2, and harms nothing."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import Outcome, Stages, labelled, save_classifier, write_jsonl

from labelbridge.lightning_app.core import artifacts

SELECTED = "--data.selection=samples/sentiment/selection"  # a student's other settings are right
BY_PROMPT = ("--strategy=random", "--class_from=prompt", "--pseudolabels=null")


def refused(outcome: Outcome, *patterns: str) -> None:
    """One line on stderr, nothing on stdout, status 2."""
    assert outcome.code == 2, outcome
    last = [line for line in outcome.err.splitlines() if "Loading weights" not in line]
    assert len(last) == 1, outcome.err
    assert last[0].startswith("error: ")
    for pattern in patterns:
        assert re.search(pattern, last[0]), f"{pattern!r} not in {last[0]!r}"


@pytest.fixture
def taught(stages: Stages, tiny_classifier: Path) -> Stages:
    """Pseudolabels of a ready-made classifier, so that no test has to train a teacher."""
    assert stages.pseudolabel(f"--model.model={tiny_classifier}").code == 0
    return stages


def rewrite(folder: str, stage: str, table: pa.Table, like: artifacts.Manifest) -> None:
    """Write an artifact again with other rows, as a complete one, whatever they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "check_vectors", lambda *_: None)
        artifacts.write(Path(folder), table, stage=stage, inputs=like.inputs, lineage=like.lineage, facts=like.facts)


def test_a_missing_gold_file(stages: Stages):
    refused(stages.teacher("--data.train.path=nowhere.jsonl"), "nowhere.jsonl: no such file", "check `path`")
    assert not Path("teacher").exists()


def test_a_missing_artifact_names_the_command_that_makes_it(stages: Stages):
    refused(stages.select(), "pseudolabel: no such artifact", "predict --config pseudolabel.yaml")
    refused(stages.student(), "select: no such artifact", "main.py select --config select.yaml")
    refused(stages.report(), "test: no such artifact", "main.py test --config test.yaml")


def test_a_missing_model_names_the_command_that_makes_it(stages: Stages):
    # A name that no run of the project's own has: `runs` is looked up beside main.py too.
    model = "runs/absent/student/model"
    refused(stages.test(f"--model.model={model}"), f"{model}: no such model", "fit --config student")
    assert not Path("test").exists()


def test_a_label_outside_the_task(stages: Stages):
    rows = labelled(9, 1)
    rows[5]["label"] = "mixed"
    write_jsonl(stages.files.gold, rows)
    rows[7]["label"] = "mixed"
    rows[8]["label"] = "none"
    write_jsonl(stages.files.gold, rows)
    refused(
        stages.teacher(),
        r"gold.jsonl: labels outside \['negative', 'neutral', 'positive'\]: 'mixed' in 2 rows \(lines 6, 8\), "
        r"'none' in 1 row \(line 9\); map them with `label_map`",
    )
    assert not Path("teacher").exists()


@pytest.mark.parametrize("text", ["", "   ", None, 3])
def test_an_empty_text(stages: Stages, text: object):
    rows = labelled(9, 3, "prompt_label")
    rows[7]["text"] = text
    if text == 3:
        rows = [{**row, "text": 3} for row in rows]
    write_jsonl(stages.files.pool, rows)
    refused(
        stages.select(*BY_PROMPT),
        r"pool.jsonl row [07] \(line [18]\): text is", "expected a text", "remove the row",
    )  # fmt: skip


def test_a_missing_column(stages: Stages):
    write_jsonl(stages.files.target, [{"sentence": "a b", "label": "neutral"}])
    outcome = stages.test(f"--model.model={stages.encoder}")
    refused(outcome, "bare encoder|no column")
    rows = [{"sentence": "a b", "prompt_label": "neutral"}]
    write_jsonl(stages.files.pool, rows)
    refused(
        stages.select(*BY_PROMPT),
        r"pool.jsonl: no column 'text' among \['sentence', 'prompt_label'\]", "`columns: {text: ...}`",
    )  # fmt: skip


def test_a_doubled_id(stages: Stages):
    write_jsonl(stages.files.pool, [*labelled(5, 3, "prompt_label"), *labelled(1, 3, "prompt_label")])
    refused(stages.pseudolabel("--model.model=teacher/model"), "")
    refused(
        stages.select(*BY_PROMPT),
        "pool.jsonl.*duplicate id '3/0'",
    )


def test_a_broken_line(stages: Stages):
    with stages.files.gold.open("a") as stream:
        stream.write('{"text": "half a row\n')
    refused(stages.teacher(), r"gold.jsonl.*row 37 \(line 38\): not JSON")


def test_a_model_whose_labels_do_not_match(stages: Stages, tiny_bert: Path):
    save_classifier(Path("other"), tiny_bert, ["spam", "ham", "eggs"])
    refused(
        stages.test("--model.model=other"), r"other: its labels \['spam', 'ham', 'eggs'\] do not cover", "label_map"
    )
    refused(stages.teacher("--model.model=other"), "do not cover")


def test_a_label_map_makes_another_model_fit(stages: Stages, tiny_bert: Path):
    save_classifier(Path("other"), tiny_bert, ["spam", "ham", "eggs"])
    names = '--model.label_map={"spam": "negative", "ham": "neutral", "eggs": "positive"}'
    assert stages.pseudolabel("--model.model=other", names).code == 0


def test_a_bare_encoder_where_a_classifier_is_needed(stages: Stages):
    refused(
        stages.test(f"--model.model={stages.encoder}"), "bare encoder", "fine-tuned classifier", "fit --config teacher"
    )
    refused(stages.pseudolabel(f"--model.model={stages.encoder}"), "bare encoder")


def test_probabilities_that_do_not_sum_to_one(taught: Stages):
    read = artifacts.read(Path("pseudolabel"))
    probs = read.table["probs"].to_pylist()
    probs[17] = [0.5, 0.2, 0.12]
    table = read.table.set_column(read.table.column_names.index("probs"), "probs", pa.array(probs))
    rewrite("pseudolabel", "pseudolabel", table, read.manifest)
    refused(taught.select(), r"pseudolabel row 17: probs sum to 0.82, expected 1", "pseudolabel.yaml")
    assert not Path("select").exists()


def test_an_artifact_without_a_manifest(taught: Stages):
    Path("pseudolabel/_manifest.json").unlink()
    refused(
        taught.select(), "pseudolabel: incomplete, there is no _manifest.json; run .*--out=pseudolabel.*to complete it"
    )


def test_an_artifact_whose_shard_was_changed(taught: Stages):
    """A change that keeps the size shows in the fingerprint alone."""
    manifest = json.loads(Path("pseudolabel/_manifest.json").read_text())
    manifest["fingerprint"] = "sha256:0"
    Path("pseudolabel/_manifest.json").write_text(json.dumps(manifest))
    refused(
        taught.select(), r"pseudolabel: 50 rows that do not match the manifest \(50 rows",
        "remove its shards, then rebuild it with .python main.py predict",
    )  # fmt: skip


def test_pseudolabels_of_another_pool(taught: Stages):
    write_jsonl(taught.files.pool, labelled(50, 33, "prompt_label"))
    refused(taught.select(), "pseudolabel: built from another pool", "pool.jsonl", "rebuild it with")


def test_pseudolabels_that_lack_a_row(taught: Stages):
    read = artifacts.read(Path("pseudolabel"))
    rewrite("pseudolabel", "pseudolabel", read.table.slice(1), read.manifest)
    refused(taught.select(), "pseudolabel: no row for id '3/0'")


def test_an_artifact_of_another_stage(taught: Stages):
    refused(taught.student("--data.selection=pseudolabel"), "written by stage 'pseudolabel', expected 'select'")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_target_labels_configured_into_fit(taught: Stages, stage: str):
    assert taught.select().code == 0
    target = f'--data.targets={{"hi": {{"path": "{taught.files.target}"}}}}'
    refused(getattr(taught, stage)(target), r"data.targets: \['hi'\] configured into fit", "test --config test.yaml")
    assert not Path(stage).exists()


def test_a_target_as_dev_set(stages: Stages):
    write_jsonl(stages.files.dev, [{**row, "lang": "hi"} for row in labelled(9, 2)])
    refused(stages.teacher(), r"data.dev .*dev.jsonl: language \['hi'\] is not the gold's \['en'\]")


@pytest.mark.slow
def test_a_target_as_dev_set_of_gold_that_states_no_language(stages: Stages):
    """Gold is English unless it says otherwise; what the dev set says holds."""
    write_jsonl(stages.files.gold, [{**row, "lang": None} for row in labelled(37, 1)])
    assert stages.teacher("--out=english").code == 0
    write_jsonl(stages.files.dev, [{**row, "lang": "hi"} for row in labelled(9, 2)])
    refused(stages.teacher(), r"language \['hi'\] is not the gold's \['en'\]", "`language`")
    assert stages.teacher("--data.train.language=hi").code == 0


def test_a_target_as_dev_set_where_the_selection_is_all_there_is(stages: Stages):
    assert stages.select(*BY_PROMPT).code == 0
    write_jsonl(stages.files.dev, [{**row, "lang": "hi"} for row in labelled(9, 2)])
    alone = ("--data.train=[]", "--model.synthetic_labels=prompt")
    refused(stages.student(*alone), r"language \['hi'\] is not the gold's \['en'\]")


@pytest.mark.parametrize(
    ("key", "closest"),
    [
        ("model.init_args.temprature=2", "temperature"),
        ("trainer.max_epoch=2", "trainer.max_epochs"),
        ("data.init_args.batchsize=2", "batch_size"),
        ("metod=x", "method"),
    ],
)
def test_an_unknown_key_on_the_command_line(stages: Stages, key: str, closest: str):
    refused(stages.student(f"--{key}"), "key '.*' is not known", f"did you mean '.*{re.escape(closest)}'")


def test_an_unknown_key_in_a_config_names_the_file(stages: Stages):
    Path("mine.yaml").write_text("model: {init_args: {temprature: 2}}\n")
    refused(stages.student("--config", "mine.yaml"), "mine.yaml: key '.*temprature' is not known", "'temperature'")


def test_an_unknown_key_of_a_function_command(stages: Stages):
    Path("mine.yaml").write_text("stategy: top\n")
    refused(stages.select("--config", "mine.yaml"), "key 'stategy' is not known", "'strategy'")


def test_a_config_that_is_not_there(stages: Stages):
    refused(stages.cli("fit", "--config", "studnt.yaml"), "studnt.yaml: no such file", "did you mean 'student.yaml'")


def test_an_unknown_command(stages: Stages):
    refused(stages.cli("selct"), "'selct' is not a command, did you mean 'select'")


def test_a_strategy_that_does_not_exist(taught: Stages):
    refused(taught.select("--strategy=topp"), "strategy 'topp': not one of")


def test_a_selection_without_probabilities_for_a_soft_student(stages: Stages):
    assert stages.select(*BY_PROMPT).code == 0
    refused(stages.student(), "select: selected without a teacher", "--pseudolabels", "`prompt`")


def test_a_selection_without_rows_leaves_gold_alone_where_that_is_accepted(
    stages: Stages, caplog: pytest.LogCaptureFixture
):
    refused(stages.select(*BY_PROMPT, "--quota=0"), "quota: 0 rows of every class", "--allow_empty true")
    assert stages.select(*BY_PROMPT, "--quota=0", "--allow_empty=true").code == 0
    refused(
        stages.student("--model.synthetic_labels=prompt"), "select: no rows, so only gold", "--data.allow_empty true"
    )
    outcome = stages.student("--model.synthetic_labels=prompt", "--data.allow_empty=true")
    assert outcome.code == 0, outcome.err
    assert re.search("data.selection .*select: no rows, so only gold is trained on", caplog.text)


def test_classes_from_a_teacher_without_a_teacher(stages: Stages):
    refused(stages.select("--pseudolabels=null"), "class_from 'teacher' needs", "--class_from prompt")


def test_a_quota_larger_than_the_class_is_a_shortfall(taught: Stages, caplog: pytest.LogCaptureFixture):
    assert taught.select("--quota=1000").code == 0
    assert "rows short of its quota of 1000" in caplog.text
    classes = artifacts.read_manifest(Path("select")).facts["classes"]
    assert all(one["kept"] == one["available"] == 1000 - one["shortfall"] for one in classes.values())
    assert sum(one["kept"] for one in classes.values()) == 50


@pytest.mark.parametrize("quota", ['{"negative": 3}', '{"negative": 3, "neutral": 3, "happy": 3}', "-1"])
def test_a_quota_that_does_not_fit_the_labels(taught: Stages, quota: str):
    refused(taught.select(f"--quota={quota}"), "quota")


def test_another_run_in_the_folder_is_not_replaced(taught: Stages):
    assert taught.select().code == 0
    before = artifacts.read_manifest(Path("select")).fingerprint
    refused(taught.select("--quota=3"), "select: holds another run", "quota.*6 -> 3", "--overwrite")
    assert artifacts.read_manifest(Path("select")).fingerprint == before
    assert taught.select("--quota=3", "--overwrite=true").code == 0
    assert artifacts.read_manifest(Path("select")).rows <= 9


def test_two_runs_of_one_method_in_a_report(taught: Stages, tiny_classifier: Path):
    for out in ("one", "two"):
        assert taught.test(f"--model.model={tiny_classifier}", f"--out={out}").code == 0
    refused(taught.cli("report", "--runs=[one, two]"), "two: method .* was also read from one", "leave one out")


def test_a_metric_that_does_not_exist(taught: Stages, tiny_classifier: Path):
    assert taught.test(f"--model.model={tiny_classifier}").code == 0
    refused(taught.report("--metric=f1"), "metric 'f1': no metric of this name", "macro_f1")


def test_a_torn_manifest(taught: Stages):
    Path("pseudolabel/_manifest.json").write_text('{"stage": "pseudo')
    refused(taught.select(), "_manifest.json: not JSON", "pseudolabel.yaml")


def test_values_of_the_wrong_type(stages: Stages):
    refused(
        stages.student("--model.temperature=warm", SELECTED),
        "command line: model.temperature is 'warm', expected float$",
    )
    refused(stages.select("--quota=many"), "command line: quota is 'many', expected int or dict$")
    refused(stages.select("--class_from=techer"), "class_from is 'techer', expected one of 'teacher', 'prompt'")
    refused(stages.student("--data.batch_size=big", SELECTED), "command line: data.batch_size is 'big', expected int$")


def test_a_value_of_the_wrong_type_in_a_config_names_the_last_file_that_has_it(stages: Stages):
    Path("mine.yaml").write_text("quota: many\n")
    refused(stages.cli("select", "--config", "select.yaml", "--config", "mine.yaml"), "mine.yaml: quota is 'many'")
    Path("other.yaml").write_text("model: {init_args: {temperature: warm}}\n")
    refused(
        stages.student("--config", "other.yaml", SELECTED), "other.yaml: model.temperature is 'warm', expected float$"
    )


def test_a_path_where_a_source_is_expected(stages: Stages):
    refused(stages.select("--pool", "x.jsonl"), "x.jsonl: no such file or artifact")
    refused(stages.teacher("--data.train", "x.jsonl"), "x.jsonl: no such file or artifact")


@pytest.mark.parametrize(
    ("name", "said"),
    [("StudntModule", "expected a class"), ("labelbridge.modules.StudntModule", "has no attribute 'StudntModule'")],
)
def test_a_class_that_does_not_exist(stages: Stages, name: str, said: str):
    refused(stages.cli("fit", "--config", "student.yaml", "--model", name), f"model is .*{said}")


def test_a_misspelt_key_with_more_behind_it(stages: Stages):
    refused(stages.student("--data.trian.path=x"), "did you mean 'train.path'")


def test_no_configuration(stages: Stages):
    refused(stages.cli("fit"), "^error: data and model are not given; .*--config teacher.yaml")
    refused(stages.cli("test"), "^error: data and model are not given; .*--config test.yaml")
    refused(stages.cli("select"), "^error: task and pool are not given; .*--config select.yaml")
    refused(stages.cli("clean"), "^error: task and raw are not given; .*--config clean.yaml")
    refused(stages.cli("report"), "^error: runs is not given; .*--config report.yaml")
    refused(stages.cli("peek"), "^error: artifact is not given; .*python main.py peek runs/select$")


@pytest.mark.parametrize(("content", "said"), [("a: [1\nb: }", "not YAML.*line 2"), ("", "None"), ("- a", r"\['a'\]")])
@pytest.mark.parametrize("command", ["select", "fit"])
def test_a_config_that_is_no_mapping(stages: Stages, command: str, content: str, said: str):
    Path("mine.yaml").write_text(content)
    refused(stages.cli(command, "--config", "mine.yaml"), f"mine.yaml: .*{said}.*fix this file")


@pytest.mark.slow
@pytest.mark.parametrize(
    "word", ["--trainer.accelerator=warp", "--trainer.accelerator=tpu", "--trainer.devices=0", "--trainer.devices=many"]
)
def test_a_machine_that_is_not_there(stages: Stages, word: str):
    refused(stages.teacher(word), "^error: trainer: .*change accelerator")


@pytest.mark.slow
def test_a_config_of_another_command(taught: Stages, tiny_classifier: Path):
    model = f"--model.model={tiny_classifier}"
    refused(taught.cli("fit", "--config", "pseudolabel.yaml", model), "PoolDataModule: has no rows for fit")
    refused(taught.cli("predict", "--config", "test.yaml", model), "GoldDataModule: has no rows for predict")
    refused(taught.cli("validate", "--config", "pseudolabel.yaml", model), "PoolDataModule: has no rows for validate")
    refused(taught.cli("fit", "--config", "test.yaml", model), "ClassifierModule: has no fit")


def test_a_dev_set_without_rows(stages: Stages):
    refused(stages.teacher("--data.dev=[]"), r"data.dev \[\]: no rows")


@pytest.mark.slow
def test_a_mistake_leaves_the_folder_free(taught: Stages, tiny_classifier: Path):
    """What a run that wrote nothing leaves behind does not count as another run."""
    assert taught.test(f"--model.model={tiny_classifier}").code == 0
    refused(taught.report("--baseline=nobody"), "baseline 'nobody'")
    assert taught.report().code == 0
    refused(taught.teacher("--export.monitor=dev/nothing"), "export.monitor 'dev/nothing': not logged")
    assert taught.teacher().code == 0


@pytest.mark.parametrize(
    "word",
    [
        "--model.temperature=0", "--model.teacher_temperature=-1", "--model.kl_weight=-2", "--model.learning_rate=-1",
        "--model.warmup_ratio=7", "--model.dropout=2",
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense(stages: Stages, word: str):
    refused(stages.student(word, SELECTED), word.split("=", maxsplit=1)[0].rsplit(".", maxsplit=1)[-1], "expected")


def test_a_file_where_the_output_folder_should_be(taught: Stages):
    Path("select").write_text("mine")
    refused(taught.select(), "select: is a file, expected a folder")
    assert Path("select").read_text() == "mine"


def test_the_error_line_is_valid_for_machines(stages: Stages):
    """Values are quoted and cut, so that a page of text in a label does not flood the terminal."""
    write_jsonl(stages.files.gold, [{"text": "a", "label": "x\n" * 500}])
    outcome = stages.teacher()
    refused(outcome, "labels outside .*: 'x")
    assert len(outcome.err) < 400
    assert json.dumps(outcome.err)


@pytest.mark.slow
def test_target_text_that_a_selection_looked_at_is_not_a_test_set(stages: Stages, tiny_classifier: Path):
    """Row 7 of the target stands, in other letters and spaces, in the text that near_target looked at."""
    seen = {"id": "blog/0", "text": "  ".join(labelled(23, 4)[7]["text"].upper().split())}
    looked_at = write_jsonl(Path("looked_at.jsonl"), [seen, {"id": "blog/1", "text": "something else"}])
    assert stages.pseudolabel(f"--model.model={tiny_classifier}").code == 0
    embed = ("predict", "--config", "embed.yaml", "--trainer.accelerator=cpu", "--trainer.logger=false")
    assert stages.cli(*embed, f"--data.pool.path={stages.files.pool}", "--out=embed").code == 0
    more = (f"--data.pool.path={looked_at}", "--out=wanted", "--data.prompt_labels=false")
    assert stages.cli(*embed, *more).code == 0
    near = ("--strategy=near_target", "--embeddings=embed", "--target_embeddings=wanted", "--class_from=prompt")
    assert stages.select(*near).code == 0
    assert "transductive" in artifacts.read_manifest(Path("select")).facts
    assert stages.student("--trainer.max_epochs=1").code == 0
    refused(
        stages.test(), "data.targets.en row '4/7': its text", "among wanted, which selection select looked at .1 such"
    )
    assert not Path("test").exists()
    write_jsonl(stages.files.target, [row for row in labelled(23, 4) if row["id"] != "4/7"])
    assert stages.test().code == 0


def test_target_embeddings_without_their_text(stages: Stages, tiny_classifier: Path):
    assert stages.pseudolabel(f"--model.model={tiny_classifier}").code == 0
    rows = artifacts.read(Path("pseudolabel"))
    table = rows.table.select(["id"]).append_column("embedding", pa.array([[1.0, 0.0]] * 50))
    rewrite("embed", "embed", table, rows.manifest)
    near = ("--strategy=near_target", "--embeddings=embed", "--target_embeddings=embed")
    refused(stages.select(*near), "embed: columns .*, expected the text too", "--data.prompt_labels false")


def test_embeddings_of_two_encoders_of_one_width(stages: Stages, tiny_classifier: Path):
    assert stages.pseudolabel(f"--model.model={tiny_classifier}").code == 0
    rows = artifacts.read(Path("pseudolabel"))
    table = rows.table.select(["id"]).append_column("text", pa.array([f"text {row}" for row in range(50)]))
    table = table.append_column("embedding", pa.array([[1.0, 0.0]] * 50))
    rewrite("embed", "embed", table, rows.manifest)
    other = {**rows.manifest.inputs, "model": {"paths": ["another"], "fingerprint": "sha256:0"}}
    artifacts.write(Path("wanted"), table, stage="embed", inputs=other, lineage=rows.manifest.lineage)
    near = ("--strategy=near_target", "--embeddings=embed", "--target_embeddings=wanted")
    refused(stages.select(*near), "wanted: embedded by another, expected .* as in embed; embed both with one model")


def test_an_embedding_without_direction(stages: Stages, tiny_classifier: Path):
    assert stages.pseudolabel(f"--model.model={tiny_classifier}").code == 0
    rows = artifacts.read(Path("pseudolabel"))
    for bad, said in (
        ([0.0, 0.0], "embed row 49: the embedding of '3/49' has length 0, expected a direction"),
        ([float("nan"), 1.0], r"embed row 49: embedding is \[nan, 1.0\], expected finite numbers; rebuild with"),
        ([1.0], r"embed row 49: embedding is \[1.0\], expected 2 numbers"),
        (None, "embed row 49: embedding is None, expected 2 numbers"),
        ([1.0, None], r"embed row 49: embedding is \[1.0, None\], expected finite numbers"),
    ):
        table = rows.table.select(["id"]).append_column("embedding", pa.array([[1.0, 0.0]] * 49 + [bad]))
        rewrite("embed", "embed", table, rows.manifest)
        refused(stages.select("--strategy=diverse", "--embeddings=embed"), said)
