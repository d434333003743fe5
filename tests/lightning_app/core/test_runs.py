"""One folder, one run."""

import subprocess
import sys
from pathlib import Path

import pytest

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.runs import Run, State, command_line

IDENTITY = {"model": {"seed": 0, "name": "m"}, "data": [1, 2]}


def begin(out: Path, identity: dict = IDENTITY, stage: str = "select", overwrite: bool = False) -> State:
    """Begin a run that writes a first shard."""
    with Run(out, stage, identity) as run:
        state = run.begin(overwrite)
        if state is State.NEW:
            (out / "part-00000.parquet").write_text("rows")
        return state


def test_a_run_is_new_then_partial_then_whole(tmp_path: Path):
    assert begin(tmp_path / "r") is State.NEW
    assert begin(tmp_path / "r") is State.PARTIAL
    artifacts.write(tmp_path / "r", None, stage="select")
    assert begin(tmp_path / "r") is State.COMPLETE


def test_a_whole_run_keeps_nothing_to_resume_from(tmp_path: Path):
    """A kill right after the manifest leaves checkpoints and finished rows behind."""
    begin(tmp_path)
    for name in ("checkpoints/last.ckpt", ".parts/a.parquet"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    artifacts.write(tmp_path, None, stage="select")
    assert begin(tmp_path) is State.COMPLETE
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {"_identity.json", "_manifest.json"}


@pytest.mark.parametrize("name", ["checkpoints/mine.ckpt", "part-99999.parquet"])
def test_a_file_of_the_users_in_a_complete_run_stays(tmp_path: Path, name: str):
    begin(tmp_path)
    artifacts.write(tmp_path, None, stage="select")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    assert begin(tmp_path) is State.COMPLETE
    with pytest.raises(InputError, match=f"{name}: in the place of an output, but no run wrote it; move it"):
        begin(tmp_path, {**IDENTITY, "data": []}, overwrite=True)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("identity", "stage", "said"),
    [
        ({**IDENTITY, "model": {"seed": 1, "name": "m"}}, "select", "model.seed: 0 -> 1"),
        ({**IDENTITY, "data": [1]}, "select", r"data: \[1, 2\] -> \[1\]"),
        (IDENTITY, "test", "stage: 'select' -> 'test'"),
        ({**IDENTITY, "extra": 1}, "select", "extra: None -> 1"),
    ],
)
def test_another_identity_is_refused_and_named(tmp_path: Path, identity: dict, stage: str, said: str):
    begin(tmp_path / "r")
    with pytest.raises(InputError, match=f"holds another run .*{said}.*--overwrite"):
        begin(tmp_path / "r", identity, stage)
    assert begin(tmp_path / "r") is State.PARTIAL  # nothing was lost


def test_overwrite_clears_what_a_run_wrote_and_nothing_else(tmp_path: Path):
    out = tmp_path / "r"
    begin(out)
    for name in ("model/config.json", "checkpoints/last.ckpt", ".parts/a.parquet", "_logs/events", "notes/mine.txt"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("x")
    artifacts.write(out, None, stage="select", files=[out / "model/config.json"])
    assert begin(out, {**IDENTITY, "data": []}, overwrite=True) is State.NEW
    with Run(out, "select", {**IDENTITY, "data": []}) as run:
        run.begin()
        artifacts.write(out, None, stage="select")
    left = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert left - {".lock"} == {"_identity.json", "_manifest.json", "notes/mine.txt"}


def test_two_processes_cannot_write_to_one_folder(tmp_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import filelock, sys; lock = filelock.FileLock({str(tmp_path / '.lock')!r}); lock.acquire(); "
         "print('held', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=r"another process is writing here.*a file left behind locks nothing"):
        begin(tmp_path)
    holder.kill()
    holder.wait()
    assert (tmp_path / ".lock").exists()
    assert begin(tmp_path) is State.NEW  # the lock of a dead process holds nothing


def test_a_refusal_gives_the_folder_back(tmp_path: Path):
    begin(tmp_path / "r")
    with pytest.raises(InputError):
        begin(tmp_path / "r", {"other": 1})
    assert begin(tmp_path / "r") is State.PARTIAL


def test_a_whole_artifact_without_an_identity_is_not_replaced(tmp_path: Path):
    artifacts.write(tmp_path / "r", None, stage="clean")
    with pytest.raises(InputError, match="holds another run"):
        begin(tmp_path / "r")


def test_the_command_line_can_be_pasted_back(monkeypatch: pytest.MonkeyPatch):
    words = ["report", "--runs", "[a, b]", "--out", "r", "--method", ""]
    monkeypatch.setattr("labelbridge.lightning_app.core.runs.typed_words", words)
    monkeypatch.setattr("sys.argv", ["/x/main.py", *words])
    assert command_line() == "python main.py report --runs '[a, b]' --out r --method ''"


@pytest.mark.parametrize(
    ("script", "program"),
    [("/x/bin/labelbridge", "labelbridge"), ("/x/labelbridge/__main__.py", "python -m labelbridge"),
     ("/x/main.py", "python main.py")],
)  # fmt: skip
def test_the_command_line_names_the_program_that_was_started(
    monkeypatch: pytest.MonkeyPatch, script: str, program: str
):
    monkeypatch.setattr("labelbridge.lightning_app.core.runs.typed_words", ["report"])
    monkeypatch.setattr("sys.argv", [script, "report"])
    assert command_line() == f"{program} report"


def test_a_run_that_wrote_nothing_claims_nothing(tmp_path: Path):
    """Whether it raised, or was killed before its first row."""

    def fail() -> None:
        with Run(tmp_path / "raised", "select", IDENTITY) as run:
            run.begin()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not (tmp_path / "raised/_identity.json").exists()
    with Run(tmp_path / "killed", "select", IDENTITY) as run:
        run.begin()
    assert (tmp_path / "killed/_identity.json").exists()
    for name in ("raised", "killed"):
        assert begin(tmp_path / name, {"other": 1}) is State.NEW
        with pytest.raises(InputError, match="holds another run"):
            begin(tmp_path / name)


def test_overwrite_resumes_a_run_of_the_same_identity(tmp_path: Path):
    begin(tmp_path)
    assert begin(tmp_path, overwrite=True) is State.PARTIAL
    assert (tmp_path / "part-00000.parquet").exists()


def test_a_run_that_is_computed_again_is_incomplete_until_its_new_manifest(tmp_path: Path):
    begin(tmp_path)
    weights = tmp_path / "weights"
    weights.write_text("four")
    artifacts.write(tmp_path, None, stage="select", files=[weights])
    assert begin(tmp_path) is State.COMPLETE
    weights.write_text("fo")
    assert artifacts.why_incomplete(tmp_path) == "weights has 2 bytes instead of 4"
    assert begin(tmp_path) is State.PARTIAL
    weights.write_text("four")  # of the recorded size again, but of an epoch that is not the last
    assert not artifacts.is_whole(tmp_path)


@pytest.mark.parametrize("words", [["--overwrite=true"], ["--overwrite", "true"], ["--overwrite"]])
def test_overwrite_is_never_part_of_a_printed_command(monkeypatch: pytest.MonkeyPatch, words: list[str]):
    monkeypatch.setattr("labelbridge.lightning_app.core.runs.typed_words", ["select", *words, "--quota", "3"])
    monkeypatch.setattr("sys.argv", ["main.py"])
    assert command_line() == "python main.py select --quota 3"
