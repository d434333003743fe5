"""What the rooms may rely on: the table of stages, the protocols, and what counts as the same run."""

import ast
import importlib
import inspect
import json
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import PROJECT, QUIET, Command, Stages, labelled, write_jsonl

from labelbridge import datamodules, modules
from labelbridge.lightning_app import stages as table
from labelbridge.lightning_app.cli import plain_sources
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.modules.generator import completed


def test_every_class_function_and_configuration_of_the_table_is_there():
    for stage in table.STAGES:
        for path in (*stage.modules, *stage.data, *filter(None, [stage.function])):
            module, _, name = path.rpartition(".")
            assert callable(getattr(importlib.import_module(module), name)), path
        assert stage.config is None or (PROJECT / "configs" / stage.config).is_file()


def test_every_command_and_configuration_of_the_table_is_in_the_help():
    lines = "\n".join(table.help_lines())
    for stage in table.STAGES:
        assert f"  {stage.command} " in lines
        assert stage.does in lines
        assert stage.config is None or f"--config {stage.config}" in lines


def test_a_missing_artifact_names_the_command_that_makes_it():
    assert table.maker("select") == "python main.py select --config select.yaml"
    assert table.maker("dynamics") == "python main.py fit --config teacher.yaml --data.pool POOL"
    assert table.maker("validate") is None  # writes no artifact
    assert table.maker("of no stage") is None


def test_a_module_that_is_none_of_a_stage_is_refused(cli: Command):
    Path("of_no_stage.py").write_text(
        "from lightning.pytorch import LightningModule\n\nclass Mine(LightningModule):\n    pass\n"
    )
    outcome = cli("fit", "--config", "teacher.yaml", "--model=of_no_stage.Mine")
    assert outcome.code == 2
    assert "Mine: not the module of a stage, expected a subclass of one of TeacherModule" in outcome.err


def test_a_student_requires_rows_with_a_selection(cli: Command):
    outcome = cli("fit", "--config", "teacher.yaml", "--model=StudentModule")
    assert outcome.code == 2
    assert "GoldDataModule: not a DataModule of stage 'student', expected MixedDataModule" in outcome.err


def test_a_module_without_the_command_names_the_commands_that_it_has(stages: Stages):
    outcome = stages.cli("predict", "--config", "codemix.yaml", "--out=out")
    assert outcome.code == 2
    assert "Seq2SeqModule: has no predict, only fit and validate" in outcome.err


def parameters_of(kind: type) -> list[inspect.Parameter]:
    """The arguments of a class, those that it passes on to its base classes included."""
    return [
        parameter
        for base in kind.__mro__
        if base.__module__.startswith("labelbridge.") and "__init__" in vars(base)
        for parameter in inspect.signature(base.__init__).parameters.values()
    ]


def test_the_settings_that_hold_sources_are_those_with_such_annotations():
    kept: dict[str, set[str]] = {"": set(), "data": set(), "model": set()}
    maps = set()
    functions = [stage.function.rpartition(".") for stage in table.STAGES if stage.function]
    parameters = [
        ("", parameter)
        for module, _, name in functions
        for parameter in inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    ]
    for part, room in (("data", datamodules), ("model", modules)):
        parameters += [(part, one) for name in room.__all__ for one in parameters_of(getattr(room, name))]
    for part, parameter in parameters:
        annotation = str(parameter.annotation)
        if "dict[" in annotation and "Source" in annotation:
            maps.add((part, parameter.name))
        elif "readers.Source" in annotation:
            kept[part].add(parameter.name)
    assert kept == {part: set(names) for part, names in plain_sources.SOURCES.items()}
    assert maps == {("data", name) for name in plain_sources.MAPS}


@pytest.mark.parametrize(
    ("words", "spelled"),
    [
        (["--pool", "a.jsonl"], {"--pool": {"path": "a.jsonl"}}),
        (["--data.train.path=a.csv"], {"--data.train": {"path": "a.csv"}}),
        (["--data.train.language", "hi", "--data.train", "a.csv"], {"--data.train": {"path": "a.csv"}}),
        (["--data.pool", "[a, {path: b, stop: 3}]"], {"--data.pool": [{"path": "a"}, {"path": "b", "stop": 3}]}),
        (["--data.train.keep", "{lang: null}", "--data.train", "a"], {"--data.train": {"path": "a"}}),
        (["--data.targets", "{hi: a}"], {"--data.targets": {"hi": {"path": "a"}}}),
    ],
)
def test_a_path_is_a_source_with_nothing_of_another(words: list[str], spelled: dict[str, object]):
    def filled(value):
        if isinstance(value, list):
            return [filled(one) for one in value]
        return {**plain_sources.DEFAULTS, **value} if "path" in value else {k: filled(v) for k, v in value.items()}

    out = plain_sources.spell_out(words)
    key, _, value = out[0].partition("=")
    assert {key: json.loads(value)} == {key: filled(one) for key, one in spelled.items()}
    further = ["--data.train.language", "hi"], ['--data.train={"keep": {"lang": null}}']
    assert out[1:] in ([], *further)


@pytest.mark.parametrize(
    "words",
    [
        ["--data.targets.hi.label_map={neutral: null}"],
        ["--data.targets.hi.keep", "{lang: null}"],
        ['--data.targets.hi={"path": "a", "label_map": {"neutral": null}}'],
        ["--data.targets.hi.label_map.neutral=null"],
    ],
)
def test_a_null_that_one_entry_of_a_map_would_lose_is_refused(words: list[str]):
    with pytest.raises(InputError, match=r"data.targets.hi.(label_map|keep) holds null.*--data.targets=\{hi: "):
        plain_sources.spell_out(words)


@pytest.mark.parametrize(
    "words",
    [["--data.train.label_map.spam=null"], ["--data.init_args.train.keep.spam", "null"], ["--pool.label_map.spam=~"]],
)
def test_a_null_for_one_name_would_be_a_text_and_is_refused(words: list[str]):
    with pytest.raises(InputError, match=r"(train|pool)\.(label_map|keep)\.spam is null, .*={spam: null}"):
        plain_sources.spell_out(words)
    plain_sources.spell_out([word.replace("null", "ham").replace("~", "ham") for word in words])


def test_a_null_inside_of_a_setting_is_a_null(cli: Command):
    words = (
        "predict",
        "--config",
        "pseudolabel.yaml",
        "--data.pool.path",
        "a.jsonl",
        "--data.pool.label_map={neutral: null}",
    )
    out = cli(*words, "--data.pool.keep={lang: null}", "--print_config").out
    assert "label_map:\n        neutral: null" in out
    assert "keep:\n        lang: null" in out


@pytest.mark.parametrize("words", [["--data.count", "3"], ["--data.dev.stop=4"], ["--data.train"], ["--out=pool"]])
def test_other_settings_are_left_alone(words: list[str]):
    assert plain_sources.spell_out(words) == words


def test_a_map_on_the_command_line_is_no_configuration(cli: Command):
    words = ("clean", "--config", "clean.yaml", "--raw.label_map", "{raw: positive, pool: null}", "--print_config")
    assert "label_map:\n    raw: positive\n    pool: null" in cli(*words).out


def test_a_new_path_in_a_later_file_or_on_the_command_line_starts_a_fresh_source(cli: Command):
    Path("first.yaml").write_text("pool: {path: a.jsonl, columns: {text: body}, language: en}\n")
    Path("second.yaml").write_text("pool: b.jsonl\n")
    words = ("select", "--config", "select.yaml", "--config", "first.yaml")
    inherited = cli(*words, "--pool.language=hi", "--print_config").out
    assert "text: body" in inherited
    assert "language: hi" in inherited
    for more in (["--config", "second.yaml"], ["--pool", "b.jsonl"], ["--pool.path=b.jsonl"]):
        fresh = cli(*words, *more, "--print_config").out
        assert "path: b.jsonl" in fresh
        assert "body" not in fresh
        assert "language: null" in fresh


def test_a_target_is_named_by_its_path_alone(stages: Stages, tiny_classifier: Path):
    Path("mine.yaml").write_text(f"data: {{init_args: {{targets: {{en: {stages.files.target}}}}}}}\n")
    extra = write_jsonl(Path("extra.jsonl"), [{**row, "lang": "hi"} for row in labelled(9, 8)])
    words = ("test", "--config", "test.yaml", "--config", "mine.yaml", f"--model.model={tiny_classifier}", *QUIET)
    outcome = stages.cli(*words, f"--data.targets.hi={extra}", "--data.targets.hi.language=hi", "--out=out")
    assert outcome.code == 0, outcome.err
    assert {"target.en", "target.hi"} <= artifacts.read(Path("out")).manifest.inputs.keys()


def test_a_pool_in_a_folder_with_a_comma_is_not_out_of_date(stages: Stages, tiny_classifier: Path):
    folder = Path("my runs, v2/pool")
    artifacts.write(folder, pa.Table.from_pylist(labelled(50, 3, "prompt_label")), stage="clean")
    assert stages.pseudolabel(f"--model.model={tiny_classifier}", f"--data.pool={folder}").code == 0
    outcome = stages.select(f"--pool={folder}")
    assert outcome.code == 0, outcome.err
    assert artifacts.read_manifest(Path("select")).inputs["pool"]["paths"] == [str(folder)]
    assert stages.cli("peek", "select").out.count("my runs, v2/pool (") == 1


@pytest.mark.slow
def test_a_class_from_that_is_given_is_kept(stages: Stages):
    assert stages.teacher(f"--data.pool={stages.files.pool}").code == 0
    assert stages.pseudolabel().code == 0
    easy = ("--strategy=easy", "--variant=released", "--dynamics=teacher/dynamics", "--allow_empty=true")
    for words, expected in ((["--class_from=teacher"], "teacher"), ([], "last_epoch")):
        assert stages.select(*easy, *words, f"--out=by_{expected}").code == 0
        assert artifacts.read_manifest(Path(f"by_{expected}")).facts["class_from"] == expected


def test_a_generator_with_nothing_but_answer_works_from_a_file_of_ones_own(cli: Command):
    Path("my_engine.py").write_text(
        "from labelbridge.modules.generator import GeneratorModule\n\n"
        "class MyGenerator(GeneratorModule):\n"
        "    def answer(self, ids, systems, users, completions):\n"
        "        return {'text': [f'a text for {row}' for row in ids]}\n"
    )
    Path("mine.yaml").write_text("model: {class_path: my_engine.MyGenerator, init_args: {model: anything}}\n")
    words = ("predict", "--config", "generate.yaml", "--config", "mine.yaml", "--data.count=7", "--out=raw", *QUIET)
    outcome = cli(*words)
    assert outcome.code == 0, outcome.err
    rows = artifacts.read(Path("raw"), "generate").table.to_pylist()
    assert [row["text"] for row in rows] == [f"a text for {row['id']}" for row in rows]
    assert {row["finish"] for row in rows} == {"stop"}
    assert cli(*words).code == 0
    # Another version of the file is another engine.
    Path("my_engine.py").write_text(Path("my_engine.py").read_text().replace("a text for", "another text for"))
    assert "holds another run (model.code" in cli(*words).err


def test_a_translator_with_nothing_but_translate_works_from_a_file_of_ones_own(cli: Command, tmp_path: Path):
    Path("my_translator.py").write_text(
        "from labelbridge.modules.translator import TranslatorModule\n\n"
        "class Backwards(TranslatorModule):\n"
        "    def translate(self, texts):\n"
        "        return {'translation': [text[::-1] for text in texts]}\n"
    )
    gold = write_jsonl(tmp_path / "gold.jsonl", labelled(9, 1))
    Path("mine.yaml").write_text("model: {class_path: my_translator.Backwards, init_args: {target_language: hi}}\n")
    words = ("--config", "translate.yaml", "--config", "mine.yaml", f"--data.rows={gold}", "--out=hi", *QUIET)
    outcome = cli("predict", *words)
    assert outcome.code == 0, outcome.err
    texts = artifacts.read(Path("hi"), "translate").table["text"].to_pylist()
    assert texts == [row["text"][::-1] for row in labelled(9, 1)]


def test_an_engine_that_returns_too_few_texts_is_refused():
    with pytest.raises(InputError, match="'text' and one value for each row"):
        completed({"text": ["a"], "finish": ["stop", "stop"]}, "text", 1)


# Objects of libraries may be asked what they have; those of another room may not.
LIBRARIES = {
    "lightning_app/cli/commands.py", "lightning_app/cli/parsers.py", "lightning_app/cli/memory.py",
    "lightning_app/cli/identity.py", "lightning_app/cli/lightning_cli.py", "modules/answers.py",
    "modules/transformers_translator.py", "modules/seq2seq.py", "modules/openai_generator.py",
    "modules/transformers_generator.py", "modules/embedder.py", "modules/corrections.py", "modules/frozen_cache.py",
    "modules/heads.py", "modules/packing.py", "modules/schedules.py", "modules/losses.py", "modules/classifier.py",
    "modules/sequence_translator.py", "datamodules/base.py", "datamodules/gold.py", "datamodules/encoding.py",
    "callbacks/export.py", "callbacks/throughput.py", "callbacks/cartography.py", "callbacks/resume.py",
}  # fmt: skip


def test_no_room_probes_the_objects_of_another():
    probing = set()
    for room in ("modules", "datamodules", "callbacks", "lightning_app/cli"):
        for path in (PROJECT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr":
                    assert path.name == "identity.py", path  # jsonargparse's namespaces
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
                    probing.add(path.relative_to(PROJECT).as_posix())
    assert probing <= LIBRARIES, probing - LIBRARIES
