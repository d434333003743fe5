"""Mistakes that are found before torch is imported are told in the words of the full parser, and nothing else is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import LABELS, PROJECT, Stages, labelled, write_jsonl

from labelbridge.__main__ import CALLBACKS
from labelbridge.lightning_app.cli import commands
from labelbridge.lightning_app.cli.early import check_early
from labelbridge.lightning_app.cli.signatures import parser_keys, settings_of
from labelbridge.lightning_app.core import hub, runs
from labelbridge.lightning_app.core.errors import InputError

CONFIGS = {
    "model.yaml": {"model": {"init_args": {"temprature": 2}}},
    "trainer.yaml": {"trainer": {"max_epoch": 2}},
    "top.yaml": {"metod": "x"},
    "source.yaml": {"data": {"init_args": {"train": {"pth": "x"}}}},
    "data.yaml": {"data": {"init_args": {"batchsize": 3}}},
    "nested.yaml": {"modl": {"temperature": 2}},
    "deep.yaml": {"data": {"init_args": {"trian": {"path": "x"}}}},
    "callback.yaml": {"export": {"monitr": "dev/ce"}},
}
KEYS = [
    "--model.init_args.temprature=2", "--model.temprature=2", "--trainer.max_epoch=2", "--data.init_args.batchsize=2",
    "--data.trian.path=x", "--metod=x", "--data.train.pth=x", "--resume.every_minute=2", "--task.nme=2", "--ckpt_pth=x",
    "--modl.temperature=2", "--model=TeacherModule --model.temperature=2",
    *(f"--config={name}" for name in CONFIGS),
]  # fmt: skip


def early(*words: str) -> str | None:
    """What is told without torch."""
    runs.typed_words[:] = words
    try:
        check_early([words[0], *commands.find_configs(list(words[1:]))], CALLBACKS, commands.unknown_key)
    except InputError as mistake:
        return f"error: {mistake}\n"
    return None


@pytest.fixture
def late(stages: Stages, monkeypatch: pytest.MonkeyPatch):
    """What the full path tells."""
    monkeypatch.setattr(commands, "check_early", lambda *_: None)

    def run(*words: str) -> str:
        outcome = stages.cli(*words)
        assert outcome.code == 2, outcome
        return next(line for line in outcome.err.splitlines(keepends=True) if line.startswith("error: "))

    return run


def student(stages: Stages, *words: str) -> list[str]:
    return ["fit", "--config", "student.yaml", "--out=student", *stages.fit_words, *words]


@pytest.mark.parametrize("words", KEYS)
def test_an_unknown_key_is_told_in_the_same_words(stages: Stages, late, words: str):
    for name, content in CONFIGS.items():
        Path(name).write_text(yaml.safe_dump(content))
    command = student(stages, *words.split())
    assert early(*command) == late(*command)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    ["--data.train.path=nowhere.jsonl", "--data.dev.path=nowhere.jsonl", "--data.pool.path=nowhere.jsonl",
     "--data.train=[{path: nowhere.jsonl}]", "--data.selection=nowhere", "--model.model=runs/nowhere/model",
     "--data.train.path=bad.jsonl", "--data.dev.path=bad.jsonl", "--data.train.columns.text=body",
     "--data.selection=data", "--data.pool.path=bad.jsonl",
     "--data.train=nowhere.jsonl", "--data.train=bad.jsonl"],
)  # fmt: skip
def test_a_wrong_path_or_label_is_told_in_the_same_words(stages: Stages, late, words: str):
    rows = [{**row, "label": "mixed", "prompt_label": "mixed"} for row in labelled(2)]
    write_jsonl(Path("bad.jsonl"), [*({**row, "prompt_label": row["label"]} for row in labelled(9)), *rows])
    command = student(stages, words)
    told = early(*command)
    assert told is not None
    assert told == late(*command)


@pytest.mark.parametrize("config", ["teacher.yaml", "generate.yaml", "codemix.yaml"])
def test_a_model_that_cannot_be_had_is_told_before_torch_is_imported(config: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub._answers.cache_clear()
    command = "predict" if config == "generate.yaml" else "fit"
    said = early(command, "--config", config, "--model.model=org/nowhere", "--out=run")
    assert said is not None
    assert said.startswith("error: model org/nowhere: no such folder, and no cached model of the Hub, which cannot be")
    hub._answers.cache_clear()


def test_a_target_is_checked_in_test_alone(stages: Stages, late, tiny_classifier: Path):
    words = [
        "--config",
        "test.yaml",
        f"--model.model={tiny_classifier}",
        '--data.targets={"hi": {"path": "nowhere.csv"}}',
    ]
    assert early("test", *words) == late("test", *words)
    assert early("validate", *words) is None


@pytest.mark.parametrize(
    "words",
    [
        "--data.train=[]", "--data.train=null", "--trainer.callbacks+=my.Callback --trainer.callbacks.x=1",
        "--model=my.Module --model.anything=1", "--print_config",
        "--data.train.path=nowhere.jsonl --print_config", "--help --metod=x", "--model.help=TeacherModule",
        "--data.train.label_map={very.good: positive}", "--data.train.path=hub:SetFit/sst5", "--seed_everything=3",
        "--trainer.logger=CSVLogger --trainer.logger.save_dir=x", "--ckpt_path=null",
        "--overwrite true", "positional", "--config=lexicons.yaml", "--task.labels=[a,b]",
    ],
)  # fmt: skip
def test_what_is_not_certainly_wrong_is_left_to_the_full_parser(stages: Stages, words: str):
    Path("lexicons.yaml").write_text("trainer.max_epochs: 3\n")
    gold = (f"--data.train.path={stages.files.gold}", "--data.selection=samples/sentiment/selection")
    command = ["fit", "--config", "student.yaml", *gold, *words.split()]
    told = early(*command)
    assert told is None or (words.startswith("--task") and "labels outside ['a', 'b']" in told)


@pytest.mark.parametrize(
    "words",
    ["--data.selection=nowhere --data=GoldDataModule", "--model.temperature=2 --model=TeacherModule",
     "--config=teacher.yaml", "--data GoldDataModule --model TeacherModule --trainer.max_time 00:00:10:00",
     "--model.init_args.dropout 0.1 --data.init_args.max_length=64", "--trainer.callbacks+=LearningRateMonitor",
     "--data.gold_dynamics=true --cartography.dtype=float16", "--export.monitor=dev/ce --export.mode=min"],
)  # fmt: skip
def test_what_the_full_parser_accepts_is_not_refused_before_it(stages: Stages, words: str):
    command = [*student(stages), "--data.selection=samples/sentiment/selection", *words.split()]
    assert early(*command) is None
    assert stages.cli(*command, "--print_config").code == 0


def test_a_new_path_does_without_the_columns_of_an_earlier_file(stages: Stages):
    Path("mine.yaml").write_text("data: {init_args: {train: {path: other.jsonl, columns: {text: body}}}}\n")
    words = ("fit", "--config", "student.yaml", "--config", "mine.yaml", "--data.selection=samples/sentiment/selection")
    assert early(*words, f"--data.train.path={stages.files.gold}") is None
    assert "nowhere.jsonl: no such file" in (early(*words, "--data.train.path=nowhere.jsonl") or "")


@pytest.mark.parametrize("config", ["teacher.yaml", "student.yaml", "codemix.yaml"])
def test_the_bundled_configs_pass(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("labelbridge.lightning_app.models.locate.has_cached", lambda _: True)
    assert early("fit", "--config", config) is None


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict"])
def test_the_keys_are_those_of_the_full_parser(subcommand: str, monkeypatch: pytest.MonkeyPatch):
    from labelbridge.__main__ import _import_callbacks
    from labelbridge.lightning_app.cli.lightning_cli import Cli

    parsers = []
    monkeypatch.setattr(Cli, "parse_arguments", lambda cli, parser, args: parsers.append(parser) or sys.exit())
    with pytest.raises(SystemExit):
        Cli(subcommand, *_import_callbacks())
    actions = parsers[0]._subcommands_action.choices[subcommand]._actions
    keys = {action.dest for action in actions}
    assert {key for key in keys if not key.endswith(".help")} == parser_keys(subcommand, tuple(CALLBACKS.items())) - {
        "model.help", "data.help",
    }  # fmt: skip


def test_the_arguments_are_those_of_the_classes():
    import inspect

    from labelbridge import callbacks, datamodules, modules

    for room in (callbacks, datamodules, modules):
        for name in room.__all__:
            thing = getattr(room, name)
            if not inspect.isclass(thing):
                continue
            accepted: set[str] = set()
            for base in thing.__mro__:
                parameters = inspect.signature(base.__init__).parameters.values()
                accepted |= {
                    one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
                }
                if not any(one.kind is one.VAR_KEYWORD for one in parameters):
                    break
            assert set(settings_of(name) or {}) == accepted - {"self"}, name


def test_neither_torch_nor_lightning_nor_datasets_is_imported(tmp_path: Path):
    script = (
        "import sys\nfrom labelbridge.__main__ import main\n"
        "code = main(['fit', '--config', 'student.yaml', '--data.train.path=nowhere.jsonl'])\n"
        "print(code, sorted({'torch', 'lightning', 'transformers', 'datasets', 'pandas'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert told.stdout == "2 []\n"
    assert told.stderr.startswith("error: nowhere.jsonl: no such file")


@pytest.mark.parametrize(
    "word", ["--data.train.path=nowhere.jsonl", "--model.temprature=2", "--data.dev.path=bad.jsonl"]
)
def test_a_mistake_in_fit_is_reported_without_the_seconds_that_torch_takes(word: str, tmp_path: Path):
    write_jsonl(tmp_path / "bad.jsonl", [{"text": "a", "label": LABELS[0]}, {"text": "b", "label": "mixed"}])
    command = f"import sys; sys.modules['torch'] = None; sys.path.insert(0, {str(PROJECT)!r}); " + (
        f"from labelbridge.__main__ import main; sys.exit(main(['fit', '--config', 'student.yaml', {word!r}]))"
    )
    told = subprocess.run([sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 2
    assert re.fullmatch(r"error: .*\n", told.stderr)
