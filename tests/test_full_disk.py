"""A disk that is full is one line with the path and what to do, with status 2; the same command then goes on."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import warm
from conftest import Stages

SMALL = "160k"  # of a tmpfs: enough for a manifest, too little for a stage's outputs


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is nearly full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Fill a disk to its last byte; removing the file makes room again."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as stream:
        for size in (4096, 1):
            with suppress(OSError):
                while True:
                    stream.write(b"\0" * size)
    return file


STAGES = ["teacher", "pseudolabel", "select", "student", "test", "report", "export"]


def words_of(stages: Stages, stage: str, out: Path) -> tuple[str, ...]:
    """The words of a stage that writes to `out`."""
    said: list[tuple[object, ...]] = []
    recorder = Stages(lambda *words: said.append(words), stages.files, stages.encoder)  # type: ignore[arg-type, return-value, func-returns-value]
    if stage == "export":
        return ("export", "--model=student/model", f"--out={out}")
    getattr(recorder, stage)(f"--out={out}")
    return tuple(str(word) for word in said[0])


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_one_line_and_the_stage_goes_on(loop: Stages, small_disk: Path, stage: str):
    words = words_of(loop, stage, small_disk / "out")
    filler = fill(small_disk)
    outcome = loop.cli(*words)
    assert outcome.code == 2, outcome
    lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, outcome.err
    assert "Traceback" not in outcome.err
    assert str(small_disk) in lines[0]
    assert "No space left on device; free some space and run the same command again" in lines[0]
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    outcome = loop.cli(*words)
    assert outcome.code == 0, outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["teacher", "student", "pseudolabel", "test"])
def test_a_disk_that_becomes_full_during_a_stage(loop: Stages, small_disk: Path, stage: str):
    """The folder and the identity fit; what follows does not."""
    words = words_of(loop, stage, small_disk / "out")
    filler = fill(small_disk)
    with filler.open("r+b") as stream:
        stream.truncate(filler.stat().st_size - 24 * 1024)
    outcome = loop.cli(*words)
    if outcome.code:
        assert outcome.code == 2, outcome
        lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, outcome.err
        assert "No space left on device" in lines[0], lines[0]
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert loop.cli(*words).code == 0


def limited(words: tuple[str, ...], folder: Path, size: int) -> int:
    """Run a command in a process whose files may not exceed a size."""
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        warm._run(list(words), str(folder))
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == (soft, hard)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("stage", ["select", "report", "export"])
def test_a_file_that_is_too_large_is_one_line_and_the_stage_goes_on(loop: Stages, tmp_path: Path, stage: str):
    words = words_of(loop, stage, tmp_path / "out")
    said = tmp_path / "said.txt"
    said.write_text("\0" * 0)
    assert limited(words, tmp_path, 1200) == 2
    assert said.read_text().count("error: ") <= 1
    assert "Traceback" not in said.read_text()
    assert loop.cli(*words).code == 0
