"""Configurations: what no run could mean is refused before anything is read or written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from doors import (
    BY_PROMPT,
    CLEAN,
    PSEUDOLABEL,
    REPORT,
    SELECT,
    STUDENT,
    TEACHER,
    TEST,
    assert_refused,
    assert_untouched,
    contents,
)  # fmt: skip

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.runs import output_folder

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES: dict[str, str | bytes] = {
    "is empty": "",
    "is a list": "- a\n- b",
    "is a number": "5",
    "is a text": "hello",
    "is null": "null",
    "is not YAML": "a: [1\nb: }",
    "has a tab": "quota:\n\t- 5",
    "is not UTF-8": b"quota: \xff\xfe",
    "is UTF-16": "quota: 5".encode("utf-16"),
    "holds NUL": "quota: \0",
    "has a key twice": "quota: 3\nquota: 4",
    "has an inner key twice": "pool: {path: data/pool.jsonl, path: data/gold.jsonl}",
    "is recursive": "options: &a {b: *a}",
    "is a bomb": BOMB,
    "is a bomb inside a known key": "options:\n" + "".join(f"  {line}\n" for line in BOMB.splitlines()),
    "is deep": "options: " + "[" * 500 + "]" * 500,
    "runs Python": "options: !!python/object/apply:os.system [touch ran]",
    "has an unknown tag": "quota: !mine 5",
    "has an undefined alias": "quota: *nowhere",
    "has a list as a key": "[a, b]: 5",
    "has two documents": "quota: 3\n---\nquota: 4",
    "has an unknown key": "quotas: 3",
    "has an unknown key of a source": "pool: {pth: data/pool.jsonl}",
    "merges no map": "<<: 5",
    "is YAML of surrogates": 'quota: "\\ud800"',
}

# Words after a command that is right without them.
VALUES: dict[tuple[str, ...], tuple[str, ...]] = {
    BY_PROMPT: (
        "--quota=null", "--quota=-1", "--quota=2.5", "--quota=many", "--quota=[]", "--quota={}", "--quota=.nan",
        "--quota=.inf", '--quota={"negative": 1}', '--quota={"a": 1, "b": 1, "c": 1}', '--quota={"negative": null}',
        "--quota={-1: negative}", '--quota={"negative": 1, "neutral": 1, "positive": 1, "mixed": 1}', "--quota=0",
        "--seed=null", "--seed=-1", "--seed=x", "--seed=1.5", "--seed=18446744073709551616", "--strategy=null",
        "--strategy=", "--strategy=topp", "--strategy=os.system", "--strategy=builtins.eval",
        "--strategy=numpy.random.rand", "--strategy=..", "--strategy=a.b.c.d", "--strategy=top", "--class_from=null",
        "--class_from=techer", "--variant=papre", "--variant=null", "--agreement=maybe", "--agreement=true",
        "--min_words=-1", "--min_words=null", "--min_words=x", "--min_words=100000",
        "--options=5", "--options=[1]", "--out=null5/\0", "--out=", "--task=null", "--task=sentimnt", '--task={"name": "x", "columns": ["text"], "labels": []}',
        '--task={"name": "x", "columns": ["text"], "labels": ["a"]}',
        '--task={"name": "x", "columns": ["text"], "labels": ["a", "A"]}',
        '--task={"name": "x", "columns": ["text"], "labels": ["a", ""]}',
        '--task={"name": "x", "columns": ["text"], "labels": [1, 2]}',
        '--task={"name": "x", "columns": [], "labels": ["a", "b"]}',
        '--task={"name": "x", "columns": ["id"], "labels": ["a", "b"]}',
        '--task={"name": "x", "columns": ["a", "a"], "labels": ["a", "b"]}',
        '--task={"name": "x", "columns": ["a", "b", "c"], "labels": ["a", "b"]}',
        "--pool=null", "--pool=[]", "--pool.path=null", "--pool.path=", "--pool.path=.",
        "--pool.path=nowhere", "--pool.path=data", "--pool.path=/dev/null", "--pool.path=" + "x/" * 3000,
        "--pool.path=" + "x" * 300, "--pool.path=data:sst5", "--pool.path=data:", "--pool.path=data:nowhere/train",
        "--pool.path=hub:", "--pool.path=hub:no/such/thing/here", "--pool.columns={text: sentence}",
        "--pool.columns={txt: text}", "--pool.columns=[text]", "--pool.columns={text: null}", "--pool.columns={text: 5}",
        "--pool.label_map={positive: nice}", "--pool.label_map={positive: null, negative: null, neutral: null}",
        "--pool.start=-1", "--pool.start=60", "--pool.stop=0", "--pool.start=5 --pool.stop=5", "--pool.stop=-1",
        "--pool.sample=0", "--pool.sample=-1", "--pool.per_class=0", "--pool.sample=3 --pool.per_class=3",
        "--pool.sample_seed=x", "--pool.keep={lang: xx}", "--pool.keep=[nowhere]", "--pool.keep=[class]",
        "--pool.keep={nowhere: x}", "--pool.keep=5", "--pool.keep=[null]", "--pool.language=hi",
        "--pool.id_prefix=null", "--pool.columns={id: text2}", "--pool.columns={text: id, id: text, lang: text2}",
    ),
    SELECT: ("--class_from=last_epoch", "--strategy=easy", "--strategy=diverse", "--strategy=near_target",
             "--strategy=diverse --embeddings=embed --options={clusters:null}",
             "--strategy=diverse --embeddings=embed --options={clusters:0}",
             "--strategy=diverse --embeddings=embed --options={clusters:-3}",
             "--strategy=diverse --embeddings=embed --options={clusters:2.5}",
             "--strategy=diverse --embeddings=embed --options={repeats:0}",
             "--strategy=diverse --embeddings=embed --options={max_iter:0}",
             "--strategy=diverse --embeddings=embed --options={kmeans_seed:-1}",
             "--strategy=diverse --embeddings=embed --options={device:gpu9}",
             "--strategy=diverse --embeddings=embed --options={backend:nltkk}",
             "--strategy=ccs --options={strata:0}", "--strategy=ccs --options={beta:2}",
             "--strategy=ccs --options={beta:.nan}", "--strategy=ccs --options={strata:1000000000000}",
             "--strategy=coverage --embeddings=embed --options={coverage:2}",
             "--strategy=coverage --embeddings=embed --options={coverage:0}",
             "--strategy=coverage --embeddings=embed --options={coverage:.nan}",
             "--strategy=near_target --embeddings=embed --target_embeddings=wanted --options={neighbours:0}"),
    CLEAN: (
        "--min_words=-1", "--min_words=null", "--max_words=0", "--min_words=9 --max_words=3", "--near_duplicates=-1",
        "--near_duplicates=0", "--near_duplicates=2", "--near_duplicates=.nan", "--language=xx", "--language=english",
        "--language=", "--size=0", "--size=-1", "--size=x", "--seed=-1", "--text_column=nowhere", "--keep_cut=maybe",
        "--prompts=nowhere", "--embeddings=nowhere", "--semantic_duplicates=2", "--semantic_duplicates=.nan",
        "--embeddings=wanted", '--exclude=[{"path": "nowhere"}]', "--exclude=5", '--exclude_targets=[{"path": 5}]',
        "--raw=null", "--raw.path=nowhere", "--raw.path=data/gold.jsonl --raw.columns={text: nowhere}",
        "--raw.per_class=3", "--raw.sample=3", "--min_words=1000",
    ),
    REPORT: (
        "--runs=null", "--runs=[]", "--runs=nowhere", "--runs=[nowhere]", "--runs=no*", "--runs=5", "--runs=[null]",
        "--metric=f1", "--metric=[]", "--metric=null", "--metric=[accuracy, f1]", "--baseline=nobody", "--baseline=[x]",
        "--prior=halved", "--by=nowhere", "--by=5", "--runs=[test, test2]", "--class_shares=maybe",
    ),
    TEACHER: (
        "--model.learning_rate=-1", "--model.learning_rate=.nan", "--model.learning_rate=.inf", "--model.learning_rate=x",
        "--model.learning_rate=null", "--model.weight_decay=-1", "--model.adam_epsilon=0", "--model.adam_epsilon=-1", "--model.adam_epsilon=1e300", "--model.dropout=1", "--model.label_smoothing=1", "--model.logit_adjustment=1e30",
        "--model.warmup_ratio=2", "--model.dropout=2", "--model.dropout=-0.1", "--model.pooling=max",
        "--model.frozen_layers=-1", "--model.frozen_layers=99", "--model.head_seed=-1", "--model.label_smoothing=2",
        "--model.class_weighting=-1", "--model.logit_adjustment=.nan", "--model.consistency=-1", "--model.prior=uniform",
        "--model.label_map={x: y}", "--model.ensemble=[teacher/model]", "--data.batch_size=0", "--data.batch_size=x",
        "--data.max_length=0", "--data.max_length=3", "--data.max_length=null", "--data.tokens_per_batch=0",
        "--data.num_workers=-1", "--data.train=null", "--data.train=[]", "--data.dev=[]", "--data.dev=null",
        "--data.targets={en: {path: data/target.jsonl}}", "--data.views=nowhere", "--seed_everything=-1",
        "--seed_everything=4294967296", "--seed_everything=x", "--trainer.max_epochs=0", "--trainer.max_epochs=-2",
        "--trainer.max_epochs=x", "--trainer.max_steps=0", "--trainer.accumulate_grad_batches=0",
        "--trainer.gradient_clip_val=-1", "--trainer.gradient_clip_val=x", "--trainer.val_check_interval=1000000",
        "--trainer.val_check_interval=0", "--trainer.check_val_every_n_epoch=5", "--trainer.check_val_every_n_epoch=0",
        "--trainer.limit_val_batches=0", "--trainer.limit_train_batches=0", "--trainer.overfit_batches=1",
        "--trainer.max_time=x", "--trainer.max_time=00:00:00:00", "--trainer.precision=7", "--trainer.devices=0",
        "--trainer.strategy=warp", "--trainer.accelerator=warp", "--trainer.callbacks=nowhere.Thing",
        "--trainer.callbacks=5", "--trainer.callbacks=[json.JSONDecoder]", "--trainer.logger=nowhere.Thing",
        "--trainer.profiler=warp", "--export.mode=MAX", "--export.mode=null", "--export.monitor=dev/nothing",
        "--export.dtype=float8", "--export.choose=worst", "--export.prior={negative: 1}", "--export.prior={x: 1}",
        "--export.prior={negative: -1, neutral: 1, positive: 1}", "--export.conformal_alpha=2", "--export.temperature=x",
        "--resume.every_minutes=-1", "--resume.every_minutes=.nan", "--resume.every_n_steps=0", "--rows.flush_seconds=x",
        "--throughput.report_seconds=-1", "--cartography.every_n_steps=0", "--cartography.dtype=float8",
        "--average.last=0", "--model.class_path=Nowhere", "--data.class_path=Nowhere", "--model=json.JSONDecoder",
        "--ckpt_path=nowhere.ckpt",  "--trainer.barebones=true --trainer.logger=true",
        "--trainer.max_epochs=null --trainer.max_steps=-5",  "--trainer.detect_anomaly=maybe",
        "--trainer.max_epochs=-1 --trainer.max_time=00:00:00:02", "--trainer.max_epochs=null --trainer.max_time=00:01:00:00",
        "--trainer.num_nodes=2", "--trainer.devices=2 --trainer.strategy=ddp_spawn",
    ),
    STUDENT: (
        "--model.temperature=0", "--model.temperature=-1", "--model.temperature=.nan", "--model.temperature=null",
        "--model.teacher_temperature=0", "--model.kl_weight=-1", "--model.kl_weight=.inf", "--model.objective=papre",
        "--model.synthetic_labels=techer", "--model.t_squared=maybe", "--data.selection=null", "--data.selection=nowhere",
        "--data.selection=pseudolabel", "--data.selection=data/pool.jsonl", "--data.selection=",
    ),
    PSEUDOLABEL: (
        "--data.pool=null", "--data.pool.path=nowhere", "--data.tokens_per_batch=-1", "--model.model=nowhere/model/x",
        "--model.model=null", "--model.model=", "--model.model=data", "--model.prior={negative: 1}",
        "--model.prior={x: 1}", "--model.ensemble=[nowhere/x/y]", "--model.source_prior={negative: 1}",
        "--model.label_map={POSITIVE: nice}", "--data.pool.keep=[probs]",
    ),
    TEST: ("--data.targets={}", "--data.targets=null", "--data.targets=[]", "--data.targets={en: null}",
           "--data.targets={en: {path: nowhere}}", "--data.targets={en: 5}", '--data.targets={"": {path: data/target.jsonl}}',
           "--data.targets={en: {path: data/target.jsonl, keep: [prediction]}}",
           "--data.targets={en: {path: data/target.jsonl, columns: {label: text}}}",
           "--data.targets={en: {path: data/target.jsonl, label_map: {positive: null, negative: null, neutral: null}}}"),
}  # fmt: skip


SLOW = (TEACHER, STUDENT, PSEUDOLABEL, TEST)  # each builds a Trainer's parser


def values() -> Iterator[Any]:
    for command, words in VALUES.items():
        marks = [pytest.mark.slow] if command in SLOW else []
        for word in words:
            options = [part if part.startswith("--") else f"--{part}" for part in word.split(" --")]
            name = f"{command[1].removeprefix('--config=')} {word}"
            yield pytest.param((*command, *options), id=name[:70], marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize("words", [*values()])
def test_value(world: Path, cli: Command, words: tuple[str, ...]):
    before = contents(world)
    assert_refused(cli(*words))
    assert_untouched(world, before)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", [BY_PROMPT, TEACHER], ids=["select", "fit"])
def test_file(world: Path, cli: Command, name: str, command: tuple[str, ...]):
    content = FILES[name]
    Path("mine.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    before = contents(world)
    assert_refused(cli(*command[:2], "--config=mine.yaml", *command[2:]), "mine.yaml|ran|quota|options|pth|key")
    assert_untouched(world, before)


HOME = [
    ("select", "--config=select.yaml", "--out=~/x"),
    ("select", "--config=select.yaml", "--out", "~/x"),
    ("select", "--config=select.yaml", "--out=~"),
    ("select", "--config=select.yaml", "--pool={path: ~/pool.jsonl}"),
    ("annotate", "--config=annotate.yaml", "--out=~root/x"),
    ("peek", "~/x"),
    ("report", "--config=report.yaml", "--runs=[~/test]"),
    ("predict", "--config=pseudolabel.yaml", "--data.pool=[~/pool.jsonl]"),
    ("fit", "--config=teacher.yaml", "--out=~/x"),
    ("fit", "--config=mine.yaml"),
]


@pytest.mark.parametrize("words", HOME, ids=" ".join)
def test_a_home_folder_is_written_out(cli: Command, words: tuple[str, ...]):
    """`--out=~/x` would be a folder named `~` to some parts of a run, and the user's home folder to others."""
    Path("mine.yaml").write_text("data:\n  train: ~/gold.jsonl\n")
    assert_refused(cli(*words), "(command line|mine.yaml): .* expected a path without ~")
    assert [file.name for file in Path().iterdir()] == ["mine.yaml"]


def test_a_home_folder_is_written_out_in_python_too():
    with pytest.raises(InputError, match="out is '~/x', expected a path without ~"):
        output_folder("~/x")
    assert output_folder("a~b/x~") == Path("a~b/x~")


WITHOUT_EFFECT = [
    (("peek", "select", "--rows=0"), "rows is 0, expected 1 <= rows"),
    (("peek", "select", "--rows=-5"), "rows is -5, expected 1 <= rows"),
    (("peek", "select", "--rows=3", "--id=a"), "rows is 3 with id"),
    (("export", "--model=teacher/model", "--compare_on=data/dev.jsonl"), "compare_on is .* without onnx"),
    (("export", "--model=teacher/model", "--average=[a, b]"), "model is .* with average"),
    (("export", "--model=teacher/model", "--selection=select"), "model is .* with selection"),
    (("export", "--selection=select", "--onnx=float"), "onnx is 'float' with selection"),
    ((*REPORT, "--html=false", "--umap=true"), "umap is True without html"),
    ((*REPORT, "--out=null", "--overwrite=true"), "overwrite is True without out"),
    ((*REPORT, "--sentiwordnet_tagger=null"), "sentiwordnet_tagger is None without sentiwordnet"),
    ((*CLEAN, "--semantic_duplicates=0.9"), "semantic_duplicates is 0.9 without embeddings"),
    ((*CLEAN, "--out=null", "--overwrite=true"), "overwrite is True without out"),
    ((*SELECT, "--out=null", "--overwrite=true"), "overwrite is True without out"),
    (
        (*SELECT, "--variant=released"),
        "variant: has no effect on strategy 'top', expected diverse or ambiguous or easy",
    ),
    (
        (*SELECT, "--embeddings=embed", "--target_embeddings=wanted"),
        "target_embeddings: has no effect on strategy 'top'",
    ),
]


@pytest.mark.parametrize(("words", "said"), WITHOUT_EFFECT, ids=[" ".join(words)[-60:] for words, _ in WITHOUT_EFFECT])
def test_an_option_without_effect(world: Path, cli: Command, words: tuple[str, ...], said: str):
    before = contents(world)
    assert_refused(cli(*words), said)
    assert_untouched(world, before)
