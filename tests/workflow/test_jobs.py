"""The commands of a grid's jobs."""

import glob
import json
import shlex
from typing import Any

import pytest
import yaml
from conftest import PROJECT

from workflow.grid import read
from workflow.jobs import Jobs, flags, from_wildcards

STRANGE = """it's "KL weight 3", [T] & $HOME; *"""


def jobs(grid: str = "selectors", **changes: Any) -> Jobs:
    config = yaml.safe_load((PROJECT / f"workflow/{grid}.yaml").read_text())
    return Jobs(read({**config, **changes}))


def settings(command: str) -> dict[str, str]:
    """A command's words as its shell would see them: the last value of each flag."""
    words = shlex.split(command)[3:]
    assert len(words) % 2 == 0
    return dict(zip(words[::2], words[1::2], strict=True))


def test_every_word_of_a_strange_name_reaches_the_command_as_it_is():
    made = jobs(out="my runs/[a] & b", selections={STRANGE: {}}, methods={STRANGE: {"selection": STRANGE}})
    student = settings(made.student("en", STRANGE, 0))
    assert student["--method"] == STRANGE
    assert student["--out"] == f"my runs/[a] & b/{STRANGE}/seed0/student"
    assert student["--data.selection"] == f"my runs/[a] & b/select/{STRANGE}/seed0"
    assert settings(made.test("en", STRANGE, 0))["--model.model"] == f"{student['--out']}/model"


def test_the_report_takes_brackets_for_brackets(tmp_path):
    made = jobs(out=str(tmp_path), selections={"top": {}}, methods={"[ab]": {"selection": "top"}, "a": {}}, seeds=[0])
    for test in made.tests:
        (tmp_path / test).parent.mkdir(parents=True)
    patterns = json.loads(settings(made.report())["--runs"])
    assert [glob.glob(pattern) for pattern in patterns] == [  # noqa: PTH207 - as `report` does
        [test.removesuffix("/_manifest.json")] for test in made.tests
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    [("a b", ["--key", "a b"]), ("", ["--key="]), ("-1", ["--key=-1"]), (-1, ["--key=-1"]), (None, ["--key", "null"]),
     (True, ["--key", "true"]), (["é"], ["--key", '["é"]'])],
)  # fmt: skip
def test_a_setting_is_never_taken_for_a_flag_nor_lost(value: Any, words: list[str]):
    assert flags({"key": value}) == words


def test_only_the_selecting_seed_scores_the_pool():
    made = jobs()
    assert ["--data.pool" in settings(made.teacher("en", seed)) for seed in (0, 1, 2)] == [True, False, False]
    full = jobs(seed_chain="full")
    assert all("--data.pool" in settings(full.teacher("en", seed)) for seed in (0, 1, 2))


def test_only_the_first_seeds_weights_are_kept_where_the_grid_says_so():
    made = jobs("demo")
    assert made.after_test("en", "SRC", 0) == ""
    assert made.after_test("en", "T-top-k", 1) == "&& rm -r runs/demo/T-top-k/seed1/student/model"
    assert jobs("demo", keep_models="all").after_test("en", "T-top-k", 1) == ""


def test_a_union_takes_the_rows_of_its_places_under_different_ids():
    sources = json.loads(settings(jobs("languages").teacher("all", 0))["--data.train"])
    assert [source["id_prefix"] for source in sources] == ["en/", "hi/", "mr/", "sw/"]
    assert sources[1]["path"] == "runs/languages/hi/train"


def test_the_grids_task_is_passed_to_every_stage():
    made = jobs(task="nli")
    commands = [
        made.teacher("en", 0),
        made.pseudolabel("en", "", 0),
        made.select("en", "top", 0),
        made.test("en", "SRC", 0),
    ]
    assert all(settings(command)["--task"] == "nli" for command in commands)


def test_wildcards_become_arguments():
    assert from_wildcards(lambda **named: named)({"place": "hi/", "seed": "1"}) == {"place": "hi", "seed": 1}
    assert from_wildcards(lambda **named: named)({"place": ""}) == {"place": "en"}


def test_predictions_share_the_outputs_of_frozen_layers():
    cache = {"--model.frozen_layers": "9", "--model.frozen_cache": "runs/demo/frozen.sqlite"}
    made = jobs("demo")
    for command in (made.student("en", "T-top-k", 0), made.test("en", "T-top-k", 0), made.pseudolabel("en", "", 0)):
        assert cache.items() <= settings(command).items()
    other = jobs(
        "demo", methods={"SRC": {"flags": {"model.frozen_layers": 6}}, "small": {"flags": {"model.model": "other"}}}
    )
    assert settings(other.test("en", "SRC", 0))["--model.frozen_layers"] == "6"
    assert "--model.frozen_cache" not in settings(other.test("en", "small", 0))
    assert "--model.frozen_cache" not in settings(jobs("demo", trainer={}).test("en", "SRC", 0))


def test_a_mean_of_methods_is_exported_from_their_models_of_the_same_seed():
    methods = {"SRC": {}, "slow": {"flags": {"model.learning_rate": 1e-5}}, "mean": {"export_of": ["SRC", "slow"]}}
    made = jobs("demo", methods=methods)
    models = ["runs/demo/teacher/seed1", "runs/demo/slow/seed1/teacher"]
    assert made.inputs_of_export("en", "mean", 1) == [f"{model}/_manifest.json" for model in models]
    command = settings(made.export("en", "mean", 1))
    assert json.loads(command["--average"]) == [f"{model}/model" for model in models]
    assert made.inputs_of_test("en", "mean", 1) == [f"{command['--out']}/labelbridge.json"]
    test = settings(made.test("en", "mean", 1))
    assert (test["--model.model"], test["--method"]) == (command["--out"], "mean")


def test_a_prior_is_estimated_on_what_the_exported_model_predicts():
    made = jobs(
        "demo",
        pseudolabels={"texts": {"rows": {"path": "mr.jsonl"}}},
        methods={"SRC": {}, "SRC-em": {"export_of": "SRC", "prior": "em", "target": "texts"}},
    )
    command = settings(made.export("en", "SRC-em", 1))
    assert (command["--model"], command["--prior"]) == ("runs/demo/teacher/seed1/model", "em")
    assert command["--target"] == settings(made.pseudolabel("en", "texts", 1))["--out"]
    assert made.inputs_of_export("en", "SRC-em", 1)[1] == f"{command['--target']}/_manifest.json"


def test_weights_that_something_else_reads_are_kept():
    methods = {"SRC": {}, "slow": {"flags": {"model.learning_rate": 1e-5}}, "mean": {"export_of": ["SRC", "slow"]}}
    made = jobs("demo", methods=methods)
    assert [made.after_test("en", name, 1) for name in ("SRC", "slow")] == ["", ""]
    assert made.after_test("en", "mean", 1) == "&& rm -r runs/demo/mean/seed1/export/model"
    both = jobs(
        "languages", keep_models="first", methods={"SRC": {"in": ["en", "translate-test"]}, "T": {"selection": "top"}}
    )
    assert both.after_test("en", "SRC", 1) == both.after_test("translate-test", "SRC", 1) == ""
    assert both.after_test("en", "T", 1)


def test_a_selection_chooses_among_the_rows_that_its_pseudolabels_are_of():
    made = jobs(
        "demo",
        pseudolabels={"texts": {"rows": {"path": "mr.jsonl"}, "needs": "my/run", "teacher": "self"}},
        selections={"top": {}, "certain": {"strategy": "certain", "pseudolabels": "texts", "prompt_labels": False}},
        methods={"self": {"selection": "top"}, "twice": {"selection": "certain"}},
    )
    rows = [{"path": "mr.jsonl"}]
    predicted = settings(made.pseudolabel("en", "texts", 0))
    assert json.loads(predicted["--data.pool"]) == rows
    assert predicted["--model.model"] == "runs/demo/self/seed0/student/model"
    assert made.inputs_of_pseudolabel("en", "texts", 0) == [
        "runs/demo/self/seed0/student/_manifest.json", "my/run/_manifest.json"
    ]  # fmt: skip
    selected = settings(made.select("en", "certain", 0))
    assert json.loads(selected["--pool"]) == rows
    assert selected["--pseudolabels"] == predicted["--out"]
    assert made.inputs_of_select("en", "certain", 0) == [f"{predicted['--out']}/_manifest.json"]
    assert json.loads(settings(made.select("en", "top", 0))["--pool"]) != rows
