"""What the operating system refuses is one line with the path and what to do, and status 2."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT, Outcome, Stages, labelled, write_jsonl

from labelbridge.lightning_app.core.errors import printable, system_error

BY_PROMPT = ("--strategy=random", "--class_from=prompt", "--pseudolabels=null")
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def refused(outcome: Outcome, *said: str) -> None:
    assert outcome.code == 2, outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, outcome.err
    assert "Traceback" not in outcome.err
    for one in said:
        assert one in lines[0], lines[0]


@pytest.mark.parametrize("out", ["/proc/nothing", "x" * 300, "a/" * 3000 + "a", "data/pool.jsonl/x", "gone", "loop"])
def test_an_output_folder_that_cannot_be(stages: Stages, out: str):
    Path("gone").symlink_to("nowhere/at/all")
    Path("loop").symlink_to("loop")
    refused(stages.select(*BY_PROMPT, f"--out={out}"))


@pytest.mark.parametrize("name", ["_manifest.json", "_identity.json", "part-00000.parquet", ".lock"])
def test_a_folder_in_the_place_of_a_file_of_ours(stages: Stages, name: str):
    (Path("select") / name / "mine").mkdir(parents=True)
    refused(stages.select(*BY_PROMPT), "select")
    assert (Path("select") / name / "mine").is_dir()


@pytest.mark.skipif(IS_ROOT, reason="root may read everything")
def test_files_that_may_not_be_read(stages: Stages):
    stages.files.pool.chmod(0)
    refused(stages.select(*BY_PROMPT), "pool.jsonl: Permission denied; change its permissions")


def test_a_full_disk_is_one_line_and_the_run_can_go_on(stages: Stages):
    from labelbridge.lightning_app.core import artifacts

    settle = artifacts.settle

    def full(temporary: Path, final: Path) -> None:
        if final.suffix == ".parquet":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(final))
        settle(temporary, final)

    said = "part-00000.parquet: No space left on device; free some space and run the same command again"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "settle", full)
        refused(stages.select(*BY_PROMPT), said)
    assert stages.select(*BY_PROMPT).code == 0


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EMFILE, errno.EFBIG, errno.ENAMETOOLONG, 9999]
)
def test_every_error_names_the_path_and_a_remedy(number: int):
    said = str(system_error(OSError(number, os.strerror(number), "some/file")))
    assert said.startswith("some/file: ")
    assert "; " in said


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT), **more}


def program(*words: str, **more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(PROJECT / "main.py"), *words]
    return subprocess.run(command, env=environment(**more), capture_output=True, text=True)


@pytest.fixture
def select_words(tmp_path: Path) -> list[str]:
    rows = [{**row, "domain": "caf\u00e9 \x1b[31m"} for row in labelled(9, 1, "prompt_label")]
    pool = write_jsonl(tmp_path / "pool.jsonl", rows)
    return ["select", "--config=select.yaml", f"--pool.path={pool}", "--pool.keep=[domain]", "--quota=2", *BY_PROMPT]


def test_a_folder_that_is_gone(tmp_path: Path, select_words: list[str]):
    (tmp_path / "here").mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", code, str(PROJECT / "main.py"), *select_words]
    done = subprocess.run(command, cwd=tmp_path / "here", capture_output=True, text=True, env=environment())
    assert done.returncode == 2
    assert done.stderr.strip() == "error: the current folder is gone; change to another folder"


@pytest.mark.slow
def test_an_ascii_terminal_and_one_that_obeys_signs(tmp_path: Path, select_words: list[str]):
    assert program(*select_words, f"--out={tmp_path / 's'}", PYTHONIOENCODING="ascii").returncode == 0
    shown = program("peek", str(tmp_path / "s"), PYTHONIOENCODING="ascii", COLUMNS="200")
    assert shown.returncode == 0, shown.stderr
    assert "\x1b[31m" not in shown.stdout
    assert "caf\\xe9 \\x1b[31m" in shown.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_that_has_no_room(tmp_path: Path, select_words: list[str]):
    assert program(*select_words, f"--out={tmp_path / 's'}").returncode == 0
    command = [sys.executable, str(PROJECT / "main.py"), "peek", str(tmp_path / "s")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment())
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_signs_that_a_terminal_would_obey_are_shown():
    assert printable("a\x1b]0;title\x07\u202eb\x00\ud800\n\tc") == "a\\x1b]0;title\\x07\\u202eb\\x00\\ud800\n\tc"
    assert printable("नमस्ते 👩‍👩‍👧 é") == "नमस्ते 👩‍👩‍👧 é"
