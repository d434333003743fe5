"""Strategies of a user's own, grids, and what stands in the way of an output: one line each, and nothing is lost."""

import copy
import io
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT, QUIET, Command
from doors import (
    BY_PROMPT,
    EXPORT,
    REPORT,
    SELECT,
    TEACHER,
    assert_line,
    assert_refused,
    assert_untouched,
    contents,
    with_text,
)  # fmt: skip

from labelbridge.lightning_app.cli.returned import check_returned
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.user_code import import_file, mistake_in_user_code
from labelbridge.lightning_app.models.loading import loading
from labelbridge.lightning_app.protocols import FitData, StageData, StageModule
from labelbridge.modules.generator import completed
from workflow.grid import read

HEAD = "import numpy as np\nfrom labelbridge.lightning_app.selection.strategies import Choice\n"
# What the file holds after its imports; `f` is the strategy.
CODE: dict[str, str] = {
    "raises": "def f(c):\n    raise ValueError('no\\nway')",
    "exits": "def f(c):\n    raise SystemExit(0)",
    "exits by sys": "import sys\ndef f(c):\n    sys.exit()",
    "is interrupted by itself": "def f(c):\n    raise GeneratorExit",
    "is stopped by an exception of no kind": "def f(c):\n    raise BaseException('no')",
    "raises what cannot be shown": (
        "class E(Exception):\n    def __str__(self):\n        return 5\ndef f(c):\n    raise E"
    ),
    "returns a tensor with a gradient": (
        "import torch\ndef f(c):\n    return torch.zeros(len(c.ids), requires_grad=True)"
    ),
    "recurses": "def f(c):\n    return f(c)",
    "asserts": "def f(c):\n    assert False",
    "divides": "def f(c):\n    return 1 / 0",
    "takes nothing": "def f():\n    return []",
    "takes two": "def f(c, other):\n    return []",
    "is a class": "class f:\n    pass",
    "is a number": "f = 5",
    "is a module": "import json as f",
    "is missing": "",
    "is a generator": "def f(c):\n    yield 1",
    "is async": "async def f(c):\n    return 1",
    "returns None": "def f(c):\n    pass",
    "returns a text": "def f(c):\n    return 'x' * len(c.ids)",
    "returns a map": "def f(c):\n    return {}",
    "returns a number": "def f(c):\n    return 5",
    "returns texts": "def f(c):\n    return ['a'] * len(c.ids)",
    "returns nan": "def f(c):\n    return np.full(len(c.ids), np.nan)",
    "returns too few": "def f(c):\n    return np.zeros(len(c.ids) - 1)",
    "returns too many": "def f(c):\n    return np.zeros(len(c.ids) + 1)",
    "returns a matrix": "def f(c):\n    return np.zeros((len(c.ids), 2))",
    "returns complex numbers": "def f(c):\n    return np.zeros(len(c.ids), dtype=complex)",
    "returns ragged lists": "def f(c):\n    return [[1], [1, 2]] * len(c.ids)",
    "returns dates": "def f(c):\n    return np.zeros(len(c.ids), dtype='datetime64[s]')",
    "keeps floats": "def f(c):\n    return Choice(np.array([0.5]), np.zeros(len(c.ids)))",
    "keeps negative rows": "def f(c):\n    return Choice(np.array([-1]), np.zeros(len(c.ids)))",
    "keeps rows that are not there": "def f(c):\n    return Choice(np.array([10**6]), np.zeros(len(c.ids)))",
    "keeps a row twice": "def f(c):\n    return Choice(np.array([0, 0]), np.zeros(len(c.ids)))",
    "keeps more than the quota": "def f(c):\n    return Choice(np.arange(len(c.ids)), np.zeros(len(c.ids)))",
    "keeps a mask": "def f(c):\n    return Choice(np.ones(len(c.ids), dtype=bool), np.zeros(len(c.ids)))",
    "keeps a text": "def f(c):\n    return Choice('all', np.zeros(len(c.ids)))",
    "keeps None": "def f(c):\n    return Choice(None, np.zeros(len(c.ids)))",
    "keeps a matrix": "def f(c):\n    return Choice(np.zeros((1, 1), dtype=int), np.zeros(len(c.ids)))",
    "keeps ids": "def f(c):\n    return Choice(c.ids[:2], np.zeros(len(c.ids)))",
    "gives no scores": "def f(c):\n    return Choice(np.array([0]), None)",
    "gives scores of nan": "def f(c):\n    return Choice(np.array([0]), np.full(len(c.ids), np.nan))",
    "gives too few scores": "def f(c):\n    return Choice(np.array([0]), np.zeros(1))",
    "gives clusters of text": "def f(c):\n    return Choice(np.array([0]), np.zeros(len(c.ids)), ['a'] * len(c.ids))",
    "gives too few clusters": "def f(c):\n    return Choice(np.array([0]), np.zeros(len(c.ids)), np.zeros(1, dtype=int))",
    "keeps nothing": "def f(c):\n    return Choice(np.array([], dtype=int), np.zeros(len(c.ids)))",
    "sorts the ids": "def f(c):\n    c.ids.sort()\n    return np.zeros(len(c.ids))",
    "changes an id": "def f(c):\n    c.ids[0] = 'x'\n    return np.zeros(len(c.ids))",
    "sorts the probabilities": "def f(c):\n    c.log_probs_NC.sort()\n    return c.log_prob()",
    "returns masked numbers": "def f(c):\n    return np.ma.masked_less(c.log_prob(), -1)",
    "keeps masked rows": "def f(c):\n    return Choice(np.ma.array([0, 1], mask=[0, 1]), np.zeros(len(c.ids)))",
    "is no Python": "def f(c:\n",
    "does not import": "import nowhere_at_all\ndef f(c):\n    return []",
    "raises when imported": "raise RuntimeError('at import')",
    "exits when imported": "raise SystemExit(3)",
    "holds NUL": "def f(c):\n    return '\0'",
    "is of a library": "from json import dumps as f",
    "is a class of a library": "from pathlib import Path as f",
    "is a partial of a library's": "import functools, json\nf = functools.partial(json.dumps, indent=2)",
    "is a built-in": "f = len",
    "is a ufunc": "f = np.exp",
    "takes keywords alone": "def f(*, c):\n    return []",
    "requires an option": "def f(c, clusters):\n    return []",
}  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_a_strategy_that_fails(world: Path, cli: Command, name: str):
    Path("mine.py").write_text(HEAD + CODE[name])
    before = contents(world)
    assert_refused(cli(*SELECT, "--strategy=mine.f"), "mine|candidates|c:|selection")
    assert_untouched(world, before)


def test_a_strategy_that_interrupts_is_an_interrupt(world: Path, cli: Command):
    Path("mine.py").write_text(HEAD + "def f(c):\n    raise KeyboardInterrupt")
    before = contents(world)
    outcome = cli(*SELECT, "--strategy=mine.f")
    assert (outcome.code, outcome.err.splitlines()[-1]) == (130, "interrupted")
    assert_untouched(world, before)


def test_a_strategy_that_closes_the_output_is_one_line(world: Path, cli: Command, monkeypatch: pytest.MonkeyPatch):
    Path("mine.py").write_text(HEAD + "import sys\ndef f(c):\n    sys.stdout.close()\n    return np.zeros(len(c.ids))")
    before = contents(world)
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", io.StringIO())
        outcome = cli(*SELECT, "--strategy=mine.f")
    assert_refused(outcome, "strategy 'mine.f': it closes the standard output")
    assert_untouched(world, before)


# A strategy, and an option that it does not have or take -> what is said of it.
OPTIONS: dict[tuple[str, str], str] = {
    ("json.dumps", '{"clusters": 3}'): "'json.dumps': not one of .*module.function of a file in this folder",
    ("top", '{"clusters": 3}'): "'clusters' is not known, it is an option of diverse; choose that strategy",
    ("mine.part", '{"clusters": 3}'): "'clusters' is not known, it is an option of diverse",
    ("mine.part", '{"width": "wide"}'): "width is 'wide', expected int",
    ("mine.Thing", '{"width": 3}'): "'width' is not known, expected none",
    ("mine.typed", '{"width": [3]}'): r"width is \[3\], expected int",
    ("mine.typed", '{"wdth": 3}'): "'wdth' is not known, did you mean 'width'",
    ("mine.typed", '{"": 3}'): "'' is not known, expected one of width",
}


@pytest.mark.parametrize(("strategy", "options"), OPTIONS)
def test_options_that_a_strategy_does_not_take(world: Path, cli: Command, strategy: str, options: str):
    Path("mine.py").write_text(
        HEAD + "import functools\ndef typed(c, width: int = 2):\n    return np.zeros(len(c.ids))\n"
        "part = functools.partial(typed)\nclass Thing:\n    def __call__(self, c): ...\nThing = Thing()\n"
    )
    before = contents(world)
    assert_refused(cli(*SELECT, f"--strategy={strategy}", f"--options={options}"), OPTIONS[strategy, options])
    assert_untouched(world, before)


def test_files_beside_the_data_are_not_run(world: Path, cli: Command):
    for name in ("lingua", "datasets", "json", "numpy", "torch", "workflow", "sitecustomize"):
        Path(f"{name}.py").write_text("open('ran', 'w')\nraise SystemExit(7)\n")
    assert cli(*BY_PROMPT).code == 0
    assert not Path("ran").exists()


OUTS = [
    "/proc/nothing",
    "/sys/nothing",
    "/dev/null",
    "data/pool.jsonl",
    "data/pool.jsonl/x",
    "x" * 300,
    "a/" * 3000,
    "gone",
    "loop",
    "",
]


@pytest.mark.parametrize("command", [BY_PROMPT, REPORT, EXPORT], ids=["select", "report", "export"])
@pytest.mark.parametrize("out", OUTS, ids=[out[:16] for out in OUTS])
def test_an_output_folder_that_cannot_be(world: Path, cli: Command, command: tuple[str, ...], out: str):
    Path("gone").symlink_to("nowhere/at/all")
    Path("loop").symlink_to("loop")
    before = contents(world)
    assert_refused(
        cli(*command[:-1], f"--out={out}") if command[-1].startswith("--out") else cli(*command, f"--out={out}")
    )
    assert_untouched(world, before)


@pytest.mark.parametrize("command", [BY_PROMPT, REPORT], ids=["select", "report"])
@pytest.mark.parametrize(
    "name", ["_manifest.json", "_identity.json", ".lock", "part-00000.parquet", "report.json", "cells"]
)
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_something_in_the_place_of_a_file(world: Path, cli: Command, command: tuple[str, ...], name: str, kind: str):
    """It is refused, or it is none of the stage's own and stays."""
    mine = Path("o") / name / "mine" if kind == "folder" else Path("o") / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    outcome = cli(*command)
    if outcome.code:
        assert_refused(outcome, "o")
        assert mine.read_text() == "mine"
    else:
        assert name in (".lock", "report.json", "cells")


@pytest.mark.parametrize("name", ["report.md", "report.html", "cells.csv", "cells/mine", ".huggingface.yaml"])
def test_a_file_in_the_place_of_a_report_stays(world: Path, cli: Command, name: str):
    with_text(f"o/{name}", "mine")(world)
    before = contents(world)
    for words in ((), ("--overwrite=true",)):
        assert_refused(cli(*REPORT, *words), f"o/{name}: in the place of an output, but no run wrote it; move it")
    assert_untouched(world, before)
    Path("o", name).unlink()
    assert cli(*REPORT).code == cli(*REPORT).code == 0


GRID: dict[str, Any] = {
    "out": "runs/x", "seeds": [0, 1], "pool": {"path": "pool.jsonl"},
    "gold": {"train": {"path": "gold.jsonl"}, "dev": {"path": "dev.jsonl"}},
    "targets": {"hi": {"path": "hi.jsonl"}}, "selections": {"top": {"strategy": "top", "quota": 5}},
    "methods": {"SRC": {}, "T-top-k": {"selection": "top"}},
}  # fmt: skip
GRIDS: dict[str, tuple[Any, ...]] = {
    "out": (..., "", " ", "-x", "~x", "a{b}", "a\0b"),
    "task": (5, 1.5, True, [], ["sentiment"], {}, {"name": "x"}, {"name": "x", "columns": "text", "labels": ["a", "b"]},
             {"name": "x", "columns": ["text"], "labels": ["a", "b"], "label": "c"}),
    "seeds": (..., None, [], [0, 0], 2**32, 10**30, -1, [1.5], "x", [True], {}),
    "pool": (5, [5], {"pth": "x"}, {"path": 5}),
    "gold": ([], {"trian": {}}, 5),
    "targets": ([], 5, {"hi": 5}, {"hi": {}}),
    "selections": ([], {"top": 5}, {"top": {"strategi": "top"}}, {"a/b": {}}, {"": {}}, {"x" * 200: {}}, {"..": {}}),
    "methods": (
        {"\u200b": {}}, {}, None, [], {"SRC": 5}, {"a/b": {}}, {"..": {}}, {"teacher": {}}, {"null": {}}, {"-x": {}}, {"x" * 200: {}},
        {"T": {"selection": "nowhere"}}, {"T": {"selecton": "top"}}, {"T": {"in": ["hi"]}}, {"T": {"flags": {"modl.x": 1}}},
        {"T": {"order": "select-first"}}, {"T": {"selection": "top", "order": "sideways"}}, {5: {}},
    ),
    "translations": ([], {"hi": 5}, {"en": {}}, {"hi": {"from": "hi"}}, {"hi": {"from": "mr"}}, {"hi": {"flag": {}}}),
    "unions": (5, {"hi": 5}, {"all": ["nowhere"]}, {"all": []}),
    "translate_test": (5, {"hi": {}}, {"hi": {"row": 5}}),
    "pseudolabels": (5, {"p": {"teacher": "nowhere"}}, {"p": {"x": 1}}),
    "overlays": (5, {"techer": []}, {"teacher": 5}, {"teacher": [5]}),
    "trainer": (5, {"warp": 1}, []),
    "teacher": (5, {"modl.x": 1}),
    "report": (5, {"metrik": "x"}, []),
    "seed_chain": ("none", 5),
    "keep_models": ("some",),
    "nothing": (1,),
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [pytest.param(key, one, id=f"{key} {'missing' if one is ... else repr(one)[:40]}") for key, all_ in GRIDS.items() for one in all_],
)  # fmt: skip
def test_a_grid_that_cannot_be_run(key: str, value: Any):
    grid = copy.deepcopy(GRID)
    grid[key] = value
    if value is ...:
        del grid[key]
    with pytest.raises(InputError) as caught:
        read(grid)
    assert_line(str(caught.value))


def test_the_grid_is_right_without_these_faults():
    assert read(copy.deepcopy(GRID)).seeds == [0, 1]


# A callback's method and what it does -> what is said of it.
CALLBACKS: dict[str, tuple[str, str]] = {
    "raises when it is made": ("__init__(self)", "raise ValueError('no')"),
    "ends the program when it is made": ("__init__(self)", "raise SystemExit(0)"),
    "raises before training": ("setup(self, *_, **__)", "1 / 0"),
    "takes nothing": ("on_train_start(self)", "pass"),
    "raises in training": ("on_train_batch_end(self, *_, **__)", "raise KeyError('a\\nb')"),
    "calls itself": ("on_train_start(self, *_)", "self.on_train_start()"),
    "reads what is not there": ("on_train_start(self, *_)", "open('nowhere/at/all')"),
    "ends the program": ("on_train_start(self, *_)", "raise SystemExit(0)"),
    "ends the program with a text": ("on_train_start(self, *_)", "import sys; sys.exit('enough')"),
    "raises when a checkpoint is saved": ("on_save_checkpoint(self, *_)", "raise RuntimeError('no')"),
    "raises at the end": ("on_fit_end(self, *_)", "raise RuntimeError('no')"),
    "raises while it is cleaned up": ("teardown(self, *_, **__)", "raise RuntimeError('no')"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_that_fails(world: Path, cli: Command, name: str):
    """The run ends with one line that names it, or its line; nothing of the user's is lost."""
    method, body = CALLBACKS[name]
    Path("mine.py").write_text(
        f"import lightning.pytorch as L\nclass Mine(L.Callback):\n    def {method}:\n        {body}\n"
    )
    before = contents(world)
    outcome = cli(*TEACHER, "--trainer.callbacks+=mine.Mine")
    assert_refused(outcome, "mine|Mine")
    after = contents(world)
    assert {file: after.get(file) for file in before} == before


@pytest.mark.slow
def test_an_early_stopping_by_a_metric_that_there_is_not(world: Path, cli: Command):
    stopping = ("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=nothing")
    assert_refused(cli(*TEACHER, *stopping), "trainer: Early stopping conditioned on metric `nothing`")


@pytest.mark.slow
@pytest.mark.parametrize("body", ["raise KeyError(3)", "raise SystemExit(0)"])
def test_an_engine_that_fails(world: Path, cli: Command, body: str):
    Path(f"engine_{len(body)}.py").write_text(
        "from labelbridge.modules.generator import GeneratorModule\nclass Mine(GeneratorModule):\n"
        f"    def answer(self, ids, *_):\n        {body}\n"
    )
    words = (f"--model=engine_{len(body)}.Mine", "--model.model=m", "--data.count=6", "--out=o", *QUIET)
    assert_refused(cli("predict", "--config=generate.yaml", *words), "engine_.*[.]py line 4")


ANSWERS: tuple[Any, ...] = (
    None, [], ["a", "b"], {}, {"texts": ["a", "b"]}, {"text": "ab"}, {"text": ["a"]}, {"text": [5, "a"]},
    {"text": [b"a", "a"]}, {"text": [["a"], "a"]}, {"text": ["\ud800", "a"]}, {"text": ["a", "b"], "finish": [None, "stop"]},
    {"text": ["a", "b"], "n_tokens": ["x", 2]}, {"text": ["a", "b"], "n_tokens": [float("nan"), 2]},
    {"text": ["a", "b"], "error": [5, None]}, {"text": ["a", "b"], "mine": [1]},
)  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
def test_an_engine_that_returns_something_else(answer: Any):
    with pytest.raises(InputError) as caught:
        completed(answer, "text", 2)
    assert_line(str(caught.value), "the engine returned")


def test_a_signal_is_no_fault_of_the_code_that_it_stops(tmp_path: Path):
    """SIGTERM ends the program by an exception of our own, whichever line is running or loading a model."""
    (tmp_path / "mine.py").write_text("def run(stop):\n    stop()\n")
    ours: dict[str, Any] = {}
    exec(compile("def stop():\n    raise SystemExit(143)", str(PROJECT / "callbacks/stopping.py"), "exec"), ours)
    with pytest.raises(SystemExit) as caught, loading("bundled"):
        import_file(tmp_path / "mine.py", "mine").run(ours["stop"])
    assert caught.value.code == 143
    assert mistake_in_user_code(caught.value) is None


# A method of a module and what it returns -> what is said of it; `torch` is there.
OF_MODULE: dict[str, tuple[str, str]] = {
    "training_step(self)": (
        "return None",
        "returned None, expected a loss: None skips other rows too.*return 0 . loss",
    ),
    "training_step(self, *_)": ("return {'loss': None}", "expected a loss"),
    "training_step(self, *a)": ("return 1.0", "returned 1.0, expected a loss"),
    "training_step(self, a=0)": ("return torch.ones(3, requires_grad=True)", "expected a loss"),
    "training_step(self, a=1)": ("return torch.tensor(1.0)", "a tensor of one number with a gradient"),
    "configure_optimizers(self)": ("return None", "returned None, expected an optimizer"),
    "configure_optimizers(self, a=0)": ("return []", r"returned \[\], expected an optimizer"),
    "configure_optimizers(self, a=1)": ("return {'optimizer': 5}", "expected an optimizer"),
    "configure_optimizers(self, a=2)": ("return 'adam'", "returned 'adam', expected an optimizer"),
    "identity(self)": ("return 5", "expected a map"),
    "identity(self, a=0)": ("return {}", "model is missing"),
    "identity(self, a=1)": ("return {'model': 'm', 'x': object()}", "not JSON serializable"),
    "facts(self)": ("return None", "expected a map"),
    "model_paths(self)": ("return 'm'", r"returned 'm', expected list\[str\]"),
    "predict_step(self)": ("return None", "returned None, expected a map with `rows`"),
    "test_step(self)": ("return {'rows': [1, 2], 'columns': {'a': [1]}, 'counts': None}", "each of the 2 rows"),
}
OF_DATA: dict[str, tuple[str, str]] = {
    "inputs(self)": ("return None", "is None, expected a map"),
    "inputs(self, a=0)": ("return {'gold': 5}", "gold is 5, expected a map"),
    "inputs(self, a=1)": ("return {'gold': {'paths': 'x', 'fingerprint': 'y'}}", "gold.paths is 'x', expected a list"),
    "identity(self)": ("return ['a']", "expected a map"),
    "output_rows(self)": ("return [1]", r"returned \[1\], expected Table"),
    "finish(self)": ("return None", "returned None, expected Written"),
    "metrics(self)": ("return {'hi': 0.5}", "hi is 0.5, expected a map"),
    "known_labels(self)": ("return [1]", r"returned \[1\], expected list\[str\] or None"),
}
OF_FIT: dict[str, tuple[str, str]] = {
    "training_facts(self)": ("return None", "is None, expected a map"),
    "longest_input(self)": ("return None", "returned None, expected int"),
}


@pytest.mark.parametrize(
    ("contract", "signature", "body", "said"),
    [
        *((StageModule, signature, *rest) for signature, rest in OF_MODULE.items()),
        *((StageData, signature, *rest) for signature, rest in OF_DATA.items()),
        *((FitData, signature, *rest) for signature, rest in OF_FIT.items()),
    ],
)
def test_a_method_that_returns_what_no_command_can_use(
    tmp_path: Path, contract: type, signature: str, body: str, said: str
):
    """One line that names the user's file and the line of the method."""
    base = "StageModuleBase" if contract is StageModule else "StageDataBase"
    head = f"import torch\nfrom labelbridge.{'modules.base' if contract is StageModule else 'datamodules.stage'}"
    mark = "    @property\n" if signature.startswith(("model_paths", "longest_input")) else ""
    (tmp_path / "mine.py").write_text(
        f"{head} import {base}\nclass Mine({base}):\n{mark}    def {signature}:\n        {body}\n"
    )
    part = import_file(tmp_path / "mine.py", "mine").Mine()
    check_returned(part, contract)
    name = signature.partition("(")[0]
    with pytest.raises(InputError) as caught:
        getattr(part, name)()
    assert_line(str(caught.value), f"mine.py line 4: Mine.{name} .*{said}")


@pytest.mark.slow
def test_a_module_without_an_optimizer(world: Path, cli: Command):
    Path("no_optimizer.py").write_text(
        "from labelbridge.modules import TeacherModule\nclass Mine(TeacherModule):\n"
        "    def configure_optimizers(self):\n        pass\n"
    )
    outcome = cli(*TEACHER, "--model=no_optimizer.Mine", "--model.model=teacher/model")
    assert_refused(outcome, "no_optimizer.py line 3: Mine.configure_optimizers returned None, expected an optimizer")
