"""A disk that is full is one line with the path and what to do, with status 2; the same command then goes on."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import warm
from conftest import QUIET, Command, Stages

SMALL = "160k"  # of a tmpfs: enough for a manifest, too little for a stage's outputs


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is nearly full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder)]
    if mount is None:
        pytest.skip("a small tmpfs cannot be mounted: no mount command here")
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted: {' '.join(mounted.stderr.split())}")
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
    assert_one_line_and_resumed(loop.cli, words, small_disk)


def assert_one_line_and_resumed(cli: Command, words: tuple[str, ...], disk: Path) -> None:
    """Run a command on a full disk, make room, and run it again."""
    filler = fill(disk)
    outcome = cli(*words)
    assert outcome.code == 2, outcome
    lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, outcome.err
    assert "Traceback" not in outcome.err
    assert str(disk) in lines[0]
    assert "No space left on device; free some space and run the same command again" in lines[0]
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    outcome = cli(*words)
    assert outcome.code == 0, outcome.err


# Stages around the loop; each has its outputs in {out}, and its model, where it has one, in {model}.
OTHERS: dict[str, tuple[str, ...]] = {
    "generate": (
        "predict", "--config=generate.yaml", "--model.model={tiny_llama}", "--data.count=6", "--model.max_new_tokens=5",
        *QUIET,
    ),
    "clean": ("clean", "--config=clean.yaml", "--raw.path=raw", "--exclude=[]", "--language=null"),
    "translate": ("predict", "--config=translate.yaml", "--data.rows.path=data/gold.jsonl", *QUIET),
    "embed": (
        "predict", "--config=embed.yaml", "--model.model={tiny_bert}", "--data.pool.path=data/pool.jsonl", *QUIET,
    ),
    "annotate": ("annotate", "--config=annotate.yaml", "--selection=select", "--rows=4"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("stage", OTHERS)
def test_a_full_disk_is_one_line_around_the_loop_too(
    world: Path, small_disk: Path, cli: Command, tiny_llama: Path, tiny_bert: Path, stage: str
):
    words = [word.format(tiny_llama=tiny_llama, tiny_bert=tiny_bert) for word in OTHERS[stage]]
    assert_one_line_and_resumed(cli, (*words, f"--out={small_disk / 'out'}"), small_disk)


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
