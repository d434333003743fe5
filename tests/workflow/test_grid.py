"""The check of a grid file."""

from typing import Any

import pytest
import yaml
from conftest import PROJECT

from labelbridge.lightning_app.core.errors import InputError
from workflow.grid import TAKEN, read

SMALL: dict[str, Any] = {
    "out": "runs/small",
    "seeds": [0, 1],
    "pool": {"path": "pool.jsonl"},
    "gold": {"train": {"path": "train.jsonl"}, "dev": {"path": "dev.jsonl"}},
    "selections": {"top": {"strategy": "top"}},
    "methods": {"SRC": {}, "T-top-k": {"selection": "top"}},
}


def refusal(**changes: Any) -> str:
    """What is wrong with a small grid after these changes; None removes a key."""
    with pytest.raises(InputError) as caught:
        read({key: value for key, value in {**SMALL, **changes}.items() if value is not None})
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix("grid: ")


def test_every_grid_of_the_project_passes():
    for file in (PROJECT / "workflow").glob("*.yaml"):
        config = yaml.safe_load(file.read_text())
        folders = {
            name: "my/data"
            for name in ("data", "raw_pool", "pool_folder", "other_teacher")
            if f"{{{name}}}" in file.read_text()
        }
        assert read({**config, **folders}).methods, file.name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": [0]}, "seed is not known, did you mean 'seeds'?"),
        ({"selection": {}, "selections": None}, "selection is not known, did you mean 'selections'?"),
        ({"methods": {"T": {"selections": "top"}}}, "methods.T.selections is not known, did you mean 'selection'?"),
        ({"methods": {"T": {"selection": "tops"}}}, "methods.T.selection: unknown name 'tops', did you mean 'top'?"),
        ({"methods": {"SRC": {"in": ["mr"]}}}, "methods.SRC.in: unknown name 'mr', expected one of en"),
        ({"selections": {"top": {"strateggy": "top"}}}, "selections.top.strateggy is not known, did you mean 'strategy'?"),
        ({"selections": {"top": {"out": "x"}}}, "selections.top.out is not known, expected one of agreement, allow_empty, "),
        ({"overlays": {"students": []}}, "overlays.students is not known, did you mean 'student'?"),
        ({"trainer": {"trianer.max_epochs": 1}}, "trainer.trianer.max_epochs is not known, did you mean 'trainer'?"),
        ({"report": {"metrics": "accuracy"}}, "report.metrics is not known, did you mean 'metric'?"),
        ({"pool": {"pth": "x"}}, "pool.pth is not known, did you mean 'path'?"),
        ({"pool": [{"pth": "x"}]}, "pool.0.pth is not known, did you mean 'path'?"),
        ({"pool": {"split": "x"}}, "pool is {'split': 'x'}, expected a source of rows, such as {path: my/rows.jsonl}"),
        ({"pool": 5}, "pool is 5, expected a map"),
        ({"pool": "{path: ]"}, "pool is '{path: ]', expected a path, or settings such as {path: my/rows.jsonl}"),
        ({"gold": {"test": {"path": "x"}}}, "gold.test is not known, expected one of dev, train"),
        ({"translations": {"hi": {"form": "en"}}}, "translations.hi.form is not known, did you mean 'from'?"),
        ({"translations": {"hi": {"from": "mr"}}}, "translations.hi.from: unknown name 'mr'"),
        ({"translations": {"hi": {"targets": {"a": {"pth": "x"}}}}}, "translations.hi.targets.a.pth is not known, did you mean 'path'?"),
        ({"translate_test": {"hi": {}}}, "translate_test.hi.rows is missing"),
        ({"pseudolabels": {"other": {"teacher": "T-tip-k"}}}, "pseudolabels.other.teacher: unknown name 'T-tip-k', did you mean"),
        ({"pseudolabels": {"own": {"teacher": "T-top-k"}}, "selections": {"top": {"pseudolabels": "own"}}}, "pseudolabels.own.teacher: 'T-top-k' learns from these pseudolabels; name another method"),
        ({"pseudolabels": {"own": {"rows": "text.jsonl"}}, "selections": {"top": {"pseudolabels": "own", "strategy": "easy"}}}, "selections.top: reads dynamics of the pool, expected a strategy that does without"),
        ({"methods": {"SRC": {}, "mean": {"export_of": ["SRC", "SCR"]}}}, "methods.mean.export_of: unknown name 'SCR', did you mean 'SRC'?"),
        ({"methods": {"SRC": {}, "mean": {"export_of": ["SRC", "mean"]}}}, "methods.mean.export_of: unknown name 'mean', expected one of SRC"),
        ({"methods": {"T": {"export_of": ["T"], "selection": "top"}}}, "methods.T is {'export_of': ['T'], 'selection': 'top'}, expected no settings of a training"),
        ({"methods": {"T": {"prior": "em"}}}, "methods.T is {'prior': 'em'}, expected export_of too"),
        ({"methods": {"SRC": {}, "em": {"export_of": "SRC", "prior": "em", "target": "text"}}}, "methods.em.target: unknown name 'text'"),
        ({"selections": {"top": {"pseudolabels": "other"}}}, "selections.top.pseudolabels: unknown name 'other', expected none"),
        ({"selections": {"top": {"needs": ["dynamic"]}}}, "selections.top.needs: unknown name 'dynamic', did you mean 'dynamics'?"),
        ({"unions": {"all": ["en", "hi"]}}, "unions.all: unknown name 'hi'"),
        ({"unions": {"all": []}}, "unions.all is [], expected at least one name"),
        ({"seeds": [0, 0]}, "seeds is [0, 0], expected a list of different whole numbers, such as [0, 1]"),
        ({"seeds": ["0"]}, "seeds.0 is '0', expected a whole number"),
        ({"seeds": [-1]}, "seeds.0 is -1, expected greater than or equal to 0"),
        ({"seed_chain": "all"}, "seed_chain is 'all', expected 'student' or 'full'"),
        ({"keep_models": "none"}, "keep_models is 'none', expected 'all' or 'first'"),
        ({"out": None}, "out is missing; see workflow/languages.yaml for an example"),
        ({"out": "runs/{ x }"}, "out is 'runs/{ x }', expected a folder without braces"),
        ({"methods": {}}, "methods: is empty"),
        ({"methods": ["SRC"]}, "methods is ['SRC'], expected a map"),
        ({"methods": {"T": {"order": "select-first"}}}, "methods.T is {'order': 'select-first'}, expected a selection too"),
        ({"selections": {"near": {"strategy": "near_target"}}, "methods": {"T": {"selection": "near"}}}, "target_text: is missing"),
        ({"teachers": "none.yaml"}, "none.yaml: No such file or directory"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_the_key(changes: dict[str, Any], message: str):
    assert refusal(**changes).startswith(message)


@pytest.mark.parametrize(
    "name", ["", " T", "T ", "a/b", "{seed}", "a\nb", "..", "-T", "~", "null", "#3", "&a", "x" * 151, *TAKEN]
)
def test_a_name_that_cannot_be_a_folder_or_a_flag_is_refused(name: str):
    message = refusal(methods={name: {}})
    assert message.startswith(" ".join(f"methods.{name} is ".split()))
    assert any(expected in message for expected in (", expected a name ", ", expected another name"))
    assert refusal(selections={name: {}}, methods={"SRC": {}}).startswith("selections.")
    assert refusal(unions={name: ["en"]}).startswith("unions.")


@pytest.mark.parametrize("name", ["KL weight 3", "it's", '"T"', "[T]", "T, k", "T=1", "a & b; c", "$HOME", "*", "тест"])
def test_any_other_name_is_accepted(name: str):
    grid = read({**SMALL, "selections": {name: {}}, "methods": {name: {"selection": name}}})
    assert grid.methods[name].selection == name


def test_a_name_that_yaml_reads_as_a_number_is_refused():
    assert refusal(methods={3: {}}) == "methods.3 is 3, expected a text; put it in quotation marks"


def test_two_things_do_not_share_a_folder():
    translations = {"hi": {}}
    assert refusal(translations=translations, methods={"hi": {}}).startswith(
        "methods.hi: a place or target has the same"
    )
    assert refusal(translations=translations, unions={"hi": ["en"]}).startswith(
        "unions.hi: a place or target has the same"
    )
    targets = {"sw": {"rows": {"path": "sw.jsonl"}}}
    assert refusal(translate_test=targets, methods={"sw": {}}).startswith("methods.sw: a place or target has the same")


def test_translations_that_start_from_each_other_are_refused():
    assert "leads back to itself" in refusal(translations={"a": {"from": "b"}, "b": {"from": "a"}})
    assert read({**SMALL, "translations": {"b": {"from": "a"}, "a": {}}}).translations["b"].origin == "a"


@pytest.mark.parametrize(("missing", "message"), [("gold", "gold.train: is missing"), ("pool", "pool: is missing")])
def test_a_translation_requires_the_rows_that_it_starts_from(missing: str, message: str):
    methods = {"SRC": {"in": ["hi"]}, "T": {"selection": "top", "in": ["hi"]}}
    assert refusal(translations={"hi": {}}, methods=methods, **{missing: None}).startswith(message)


def test_a_union_has_no_selection_to_translate():
    methods = {"T": {"selection": "top", "in": ["all"], "order": "select-first"}}
    message = refusal(translations={"hi": {}}, unions={"all": ["en", "hi"]}, methods=methods)
    assert message.startswith("methods.T: order select-first in a union ['all']")


def test_a_folder_from_the_command_line_is_filled_in():
    grid = read({**SMALL, "pool": {"path": "{data}/pool.jsonl"}, "data": "my/data"})
    assert grid.pool == [{"path": "my/data/pool.jsonl"}]
    assert refusal(pool={"path": "{data}/pool.jsonl"}).endswith("give it with --config data=FOLDER")
    assert refusal(data="my/data").startswith("data is not known")


def test_nothing_after_a_colon_stands_for_the_default():
    grid = read({**SMALL, "unions": None, "gold": {"dev": None}, "selections": {"top": None}, "methods": {"SRC": None}})
    assert (grid.unions, grid.gold, grid.selections, grid.methods["SRC"].places) == (
        {},
        {"dev": []},
        {"top": {}},
        ["en"],
    )


def test_a_key_of_the_grid_may_be_filled_in_too():
    grid = read({**SMALL, "trainer": {"model.frozen_cache": "{out}/frozen.sqlite"}})
    assert (grid.out, grid.trainer) == ("runs/small", {"model.frozen_cache": "runs/small/frozen.sqlite"})


def test_a_source_is_a_path_a_mapping_a_list_or_json():
    for source in ("p.jsonl", {"path": "p.jsonl"}, ["p.jsonl"], '{"path": "p.jsonl"}'):
        assert read({**SMALL, "pool": source}).pool == [{"path": "p.jsonl"}]


def needs(strategy: dict[str, Any], flags: dict[str, Any] | None = None) -> set[str]:
    methods = {"T": {"selection": "x", "flags": flags or {}}}
    return read({**SMALL, "target_text": "t.txt", "selections": {"x": strategy}, "methods": methods}).needs("x")


def test_a_selection_needs_what_its_strategy_and_its_students_read():
    prompt = {"model.synthetic_labels": "prompt"}
    assert needs({"strategy": "top"}) == {"pseudolabels"}
    assert needs({"strategy": "ambiguous"}) == {"pseudolabels", "dynamics"}
    assert needs({"strategy": "near_target"}) == {"pseudolabels", "embeddings", "target"}
    assert needs({"strategy": "mine.own", "needs": ["dynamics"]}) == {"pseudolabels", "dynamics"}
    assert needs({"strategy": "top", "class_from": "last_epoch"}) == {"pseudolabels", "dynamics"}
    assert needs({"strategy": "random", "class_from": "prompt"}, prompt) == set()
    assert needs({"strategy": "random", "class_from": "prompt"}) == {"pseudolabels"}
    weighed = {**prompt, "model.importance_clip": 2.0}
    assert needs({"strategy": "random", "class_from": "prompt"}, weighed) == {"pseudolabels"}
    assert needs({"strategy": "random", "class_from": "prompt", "agreement": True}, prompt) == {"pseudolabels"}


def test_pseudolabels_of_two_rounds_that_learn_from_each_other_are_refused():
    pseudolabels = {"a": {"teacher": "B"}, "b": {"teacher": "A"}}
    selections = {"of-a": {"pseudolabels": "a"}, "of-b": {"pseudolabels": "b"}}
    methods = {"A": {"selection": "of-a"}, "B": {"selection": "of-b"}}
    message = refusal(pseudolabels=pseudolabels, selections=selections, methods=methods)
    assert message == "pseudolabels.a.teacher: 'A' learns from these pseudolabels; name another method"


def test_rows_of_pseudolabels_stand_in_for_the_pool():
    grid = read(
        {
            **{key: value for key, value in SMALL.items() if key != "pool"},
            "translations": {"hi": {}},
            "pseudolabels": {"texts": {"rows": {"path": "texts.jsonl"}}},
            "selections": {"certain": {"strategy": "certain", "pseudolabels": "texts", "prompt_labels": False}},
            "methods": {"SRC": {}, "self": {"selection": "certain", "in": ["hi"]}},
        }
    )
    assert grid.own_rows("texts") == [{"path": "texts.jsonl"}]
    translated = {"selection": "certain", "in": ["hi"], "order": "select-first"}
    message = refusal(
        translations={"hi": {}},
        pseudolabels={"texts": {"rows": {"path": "texts.jsonl"}}},
        selections=grid.selections,
        methods={"self": translated},
    )
    assert message.startswith("methods.self: order select-first, expected none with a selection whose pseudolabels")
