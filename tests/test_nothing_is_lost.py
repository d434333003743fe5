"""`--overwrite`, kills and failures lose nothing: neither what an earlier run has made, nor a user's own files."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import Outcome, Stages, labelled, write_jsonl
from test_mistakes import refused

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.runs import Run, State

pytestmark = pytest.mark.slow

BY_PROMPT = ("--strategy=random", "--class_from=prompt", "--pseudolabels=null")
FAILS = "def fails(candidates):\n    raise RuntimeError('not yet')\n"


def contents(folder: str | Path) -> dict[str, bytes]:
    """The files of a folder, but for its lock."""
    files = (file for file in Path(folder).rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture
def selected(stages: Stages) -> Stages:
    """The stages with a selection in `select`."""
    assert stages.select(*BY_PROMPT).code == 0
    return stages


def test_a_strategy_that_raises_leaves_the_old_selection(selected: Stages):
    before = contents("select")
    Path("mine.py").write_text(FAILS)
    outcome = selected.select(*BY_PROMPT, "--strategy=mine.fails", "--overwrite=true")
    refused(outcome, r"strategy 'mine.fails', .*mine.py line 2: RuntimeError: not yet; fix this code")
    assert contents("select") == before


def test_an_old_run_is_removed_when_its_successor_is_complete(selected: Stages):
    assert selected.select(*BY_PROMPT, "--quota=3", "--overwrite=true").code == 0
    names = {path.name for path in Path("select").iterdir()}
    assert names == {".lock", ".huggingface.yaml", "_identity.json", "_manifest.json", "part-00000.parquet"}
    assert artifacts.read(Path("select")).manifest.rows == 9


@pytest.mark.parametrize("words", [("--trainer.max_epochs=0",), ("--export.monitor=dev/nothing",)])
def test_a_fit_that_fails_leaves_the_old_model(loop: Stages, words: tuple[str, ...]):
    before = contents("teacher")
    assert loop.teacher(*words, "--overwrite=true").code == 2
    assert {name: one for name, one in contents("teacher").items() if not name.startswith(".unfinished")} == before
    assert loop.teacher().code == 0


@pytest.mark.parametrize("command", ["teacher", "student", "pseudolabel", "test", "select", "report"])
def test_what_a_command_reads_is_not_replaced_by_it(loop: Stages, command: str):
    reads = {
        "teacher": ("--model.model=teacher/model",), "student": ("--out=select",),
        "pseudolabel": ("--out=teacher",), "test": ("--out=student",), "select": ("--out=pseudolabel",),
        "report": ("--out=test",),
    }[command]  # fmt: skip
    before = contents(".")
    refused(getattr(loop, command)(*reads, "--overwrite=true"), "which this command reads, and would be replaced")
    assert {name: contents(".").get(name) for name in before} == before


def test_clean_does_not_replace_the_rows_that_it_cleans(stages: Stages):
    rows = labelled(9, 1, "prompt_label")
    write_jsonl(Path("raw.jsonl"), [*rows, {**rows[0], "id": "again"}])
    words = ("clean", "--config=clean.yaml", "--exclude=[]", "--language=null")
    assert stages.cli(*words, "--raw.path=raw.jsonl", "--out=pool").code == 0
    refused(stages.cli(*words, "--raw.path=pool", "--out=pool", "--overwrite=true"), "pool: holds pool, which")


@pytest.mark.parametrize("name", ["model/weights.bin", "part-00000.parquet", "checkpoints/last.ckpt", "dynamics/x"])
def test_files_that_no_run_wrote_are_left_alone(stages: Stages, name: str):
    mine = Path("teacher") / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    for words in ((), ("--overwrite=true",)):
        refused(stages.teacher(*words), f"teacher/{name}: in the place of an output, but no run wrote it; move it")
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["part-7.parquet", "notes.txt", "mine/x"])
def test_other_files_in_the_folder_stay(stages: Stages, name: str):
    mine = Path("select") / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    for quota in (3, 4):
        assert stages.select(*BY_PROMPT, f"--quota={quota}", "--overwrite=true").code == 0
    assert mine.read_text() == "mine"
    assert len(artifacts.read(Path("select")).table) == 12


def test_a_users_file_in_a_model_folder_of_ours_is_not_removed(loop: Stages):
    Path("teacher/model/weights.bin").write_text("mine")
    before = contents("teacher")
    refused(loop.teacher("--seed_everything=9", "--overwrite=true"), "teacher/model/weights.bin: in the place of an")
    assert contents("teacher") == before


@pytest.mark.parametrize("place", ["select/.parts", "select/checkpoints/mine", "select/_logs", "link/model"])
def test_no_run_writes_where_another_would_remove_it(selected: Stages, place: str):
    Path("link").symlink_to("select")
    before = contents("select")
    refused(selected.cli("export", "--selection=select", f"--out={place}"), f"{place}: is inside the selection that is")
    outcome = selected.select(*BY_PROMPT, f"--out={place}")
    refused(outcome, f"{place}: inside .* of the run in .*select, which may replace it; choose another --out")
    assert contents("select") == before
    assert selected.select(*BY_PROMPT, "--out=select/mine").code == 0


def test_an_output_folder_that_is_a_link_to_itself_is_one_line(stages: Stages):
    Path("select").symlink_to("select")
    refused(stages.select(*BY_PROMPT), "select: .*; remove it, or choose another path")


def start(out: Path, number: int, *, rows: bool = True, fails: bool = False, overwrite: bool = True) -> State:
    """Begin a run that computes a row, and complete it or fail."""
    with Run(out, "select", {"number": number}) as run:
        state = run.begin(overwrite)
        if state is State.COMPLETE:
            return state
        if rows:
            (out / ".parts").mkdir(exist_ok=True)
            (out / ".parts" / f"row-of-{number}").write_text("x")
        if fails:
            raise InputError("no")
        artifacts.write(out, None, stage="select", facts={"number": number})
        return state


def number_in(out: Path) -> object:
    return artifacts.read_manifest(out).facts["number"]


def test_what_a_failed_successor_has_computed_is_gone_on_from(tmp_path: Path):
    start(tmp_path, 1)
    with pytest.raises(InputError, match="no"):
        start(tmp_path, 2, fails=True)
    assert number_in(tmp_path) == 1
    assert start(tmp_path, 1) is State.COMPLETE
    assert start(tmp_path, 2, overwrite=False) is State.PARTIAL  # it was allowed to replace
    assert number_in(tmp_path) == 2
    assert not (tmp_path / ".replaced").exists()
    assert not (tmp_path / ".unfinished").exists()


def test_a_third_run_replaces_the_first_where_the_second_was_killed(tmp_path: Path):
    start(tmp_path, 1)
    with Run(tmp_path, "select", {"number": 2}) as run:
        assert run.begin(overwrite=True) is State.NEW
        (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="no"):
        start(tmp_path, 3, fails=True, rows=False)
    assert number_in(tmp_path) == 1


def test_the_first_run_is_back_where_its_killed_successor_is_given_up(tmp_path: Path):
    start(tmp_path, 1)
    with Run(tmp_path, "select", {"number": 2}) as run:
        run.begin(overwrite=True)
        (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="holds another run"):
        start(tmp_path, 1, overwrite=False)
    assert start(tmp_path, 1) is State.COMPLETE
    assert number_in(tmp_path) == 1


class Killed(BaseException):
    """Nothing runs after it: no command catches it."""


@pytest.mark.parametrize("step", range(12))
def test_a_kill_at_any_step_of_the_exchange_loses_nothing(tmp_path: Path, step: int):
    """The first so many files and folders are moved, then nothing more happens in that process."""
    start(tmp_path, 1)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    manifest = json.loads((tmp_path / artifacts.MANIFEST).read_text())
    manifest["files"] = {"model/config.json": 2}
    (tmp_path / artifacts.MANIFEST).write_text(json.dumps(manifest))
    rename, left = Path.rename, [step]

    def killed(path: Path, target: Path) -> Path:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return rename(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        for number, moves in ((2, step), (3, step // 2)):
            left[0] = moves
            with pytest.raises((Killed, InputError)):
                start(tmp_path, number, fails=True)
    assert start(tmp_path, 1) is State.COMPLETE
    assert number_in(tmp_path) == 1
    assert (tmp_path / "model/config.json").read_text() == "{}"


def export(stages: Stages, *words: str) -> Outcome:
    return stages.cli("export", "--model=teacher/model", "--out=hub", *words)


@pytest.mark.parametrize("where", ["before", "after", "inside the removal"])
def test_an_export_that_was_killed_goes_on(loop: Stages, where: str):
    assert export(loop).code == 0
    before = contents("hub")
    rename, rmtree = Path.rename, shutil.rmtree

    def killed_rename(path: Path, target: Path) -> Path:
        if where == "before" and Path(target).name == "hub":
            raise Killed
        moved = rename(path, target)
        if where == "after" and Path(target).name == "hub":
            raise Killed
        return moved

    def killed_rmtree(path: Path, *arguments: object, **named: object) -> None:
        if where == "inside the removal" and Path(path).exists() and "previous" in Path(path).name:
            next(Path(path).iterdir()).unlink()
            raise Killed
        rmtree(path, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", killed_rename)
        patch.setattr(shutil, "rmtree", killed_rmtree)
        with pytest.raises(Killed):
            export(loop, "--overwrite=true")
    assert export(loop, "--overwrite=true").code == 0
    assert contents("hub") == before
    assert not [path for path in Path().iterdir() if path.name.startswith(".hub")]


def test_a_users_file_in_an_export_is_not_removed(loop: Stages):
    assert export(loop).code == 0
    Path("hub/notes.md").write_text("mine")
    refused(export(loop, "--overwrite=true"), "hub/notes.md: no export wrote it; move it, or choose another --out")
    assert Path("hub/notes.md").read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"PK", b"not a checkpoint", None])
def test_a_checkpoint_that_cannot_be_read_is_no_reason_to_stop(
    loop: Stages, content: bytes | None, caplog: pytest.LogCaptureFixture
):
    """The fit starts over, and says so; the weights are those of a run that was never interrupted."""
    import torch

    weights = Path("teacher/model/model.safetensors").read_bytes()
    Path("teacher/_manifest.json").unlink()
    Path("teacher/checkpoints").mkdir()
    last = Path("teacher/checkpoints/last.ckpt")
    if content is None:
        torch.save(torch.zeros(3), last)
    else:
        last.write_bytes(content)
    assert loop.teacher().code == 0
    assert "teacher/checkpoints/last.ckpt: cannot be resumed from" in caplog.text
    assert Path("teacher/model/model.safetensors").read_bytes() == weights
