"""A fit that was killed anywhere resumes to the very bits of one that was not."""

import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from conftest import Stages

from labelbridge.lightning_app.core import artifacts

pytestmark = pytest.mark.slow
# 55 rows in windows of 8 make 7 windows and 14 micro-batches an epoch, the last window shorter; two epochs.
MICRO_BATCHES = 28


@pytest.fixture
def fit(stages: Stages, tiny_classifier: Path, tmp_path: Path):
    """Words of a student's fit with dropout, checks in mid-epoch, and a checkpoint after every window."""
    assert stages.pseudolabel(f"--model.model={tiny_classifier}").code == 0
    assert stages.select("--class_from=prompt").code == 0  # 18 rows

    def words(out: str, *more: object) -> list[object]:
        return [
            "fit", "--config", "student.yaml", *stages.fit_words, "--data.selection=select", f"--out={out}",
            "--resume.every_n_steps=1", "--model.dropout=0.2", "--trainer.val_check_interval=6",
            "--trainer.check_val_every_n_epoch=null", "--trainer.callbacks+=probes.Ending",
            f"--trainer.callbacks.file={out}.pt", "--export.monitor=dev/step", *more,  # each check is the best
        ]  # fmt: skip

    return words


def same(one: Any, two: Any, place: str = "ending") -> None:
    """Equal to the last bit, all the way down."""
    assert type(one) is type(two), place
    if isinstance(one, dict):
        assert one.keys() == two.keys(), place
        for key in one:
            same(one[key], two[key], f"{place}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), place
        for number, (a, b) in enumerate(zip(one, two, strict=True)):
            same(a, b, f"{place}[{number}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), place
    else:
        assert one == two, place


def ending(file: str) -> dict[str, Any]:
    """What a run amounts to, with every check on the dev set; one that was killed may have made a check twice."""
    checks = set(Path(file).with_suffix(".checks").read_text().splitlines())
    return {**torch.load(file, weights_only=True), "checks": sorted(checks)}


@pytest.fixture
def whole(fit, tmp_path: Path) -> dict[str, Any]:
    """What a run that nothing happened to amounts to."""
    assert warm.run(fit("whole"), tmp_path) == 0, warm.said(tmp_path)
    return ending("whole.pt")


def model_of(out: str) -> dict[str, bytes]:
    """The exported model, byte for byte."""
    return {path.name: path.read_bytes() for path in Path(out, "model").iterdir()}


def kill_at(batch: int, hook: str = "on_train_batch_end", number: int = signal.SIGKILL) -> list[str]:
    return warm.probe("KillAt", batch=batch, hook=hook, number=int(number))


def test_a_killed_fit_resumes_to_the_same_bits(fit, whole, tmp_path: Path):
    """Kills between backward and step, between micro-batches and windows, and in the middle of a check."""
    moments = [
        (batch, hook) for batch in range(1, MICRO_BATCHES) for hook in ("on_after_backward", "on_train_batch_end")
    ]
    moments = [*random.Random(0).sample(moments, 20), (1, "on_validation_batch_end"), (3, "on_validation_batch_end")]
    for batch, hook in moments:
        out = f"killed-{batch}-{hook}"
        assert warm.run(fit(out, *kill_at(batch, hook)), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
        assert not Path(out, "_manifest.json").exists()
        assert warm.run(fit(out), tmp_path) == 0, warm.said(tmp_path)
        same(ending(f"{out}.pt"), whole, out)
        assert model_of(out) == model_of("whole"), out
        if hook != "on_validation_batch_end":  # it went on from the last window, not from the beginning
            assert int(Path(f"{out}.batches").read_text()) <= MICRO_BATCHES - batch + 2, out
    print(f"{len(moments)} kills, {len(moments)} endings with the same bits")


WRITES = [
    ("last.ckpt", 1, False), ("last.ckpt", 4, False), ("last.ckpt", 6, True), ("labelbridge.json", 1, False),
    (".model.previous", 1, True), ("model", 1, False), ("model", 2, True), ("_manifest.json", 1, False),
    ("_manifest.json", 1, True),
]  # fmt: skip


def test_a_write_torn_by_a_kill_costs_nothing(fit, whole, tmp_path: Path):
    """Kills inside a checkpoint, an export, and the manifest; what was being written is half there."""
    for name, which, after in WRITES:
        out = f"torn-{name.strip('.')}-{which}-{after}"
        kill = warm.probe("KillWriting", name=name, time=which, after=str(after).lower())
        assert warm.run(fit(out, *kill), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
        assert warm.run(fit(out), tmp_path) == 0, warm.said(tmp_path)
        same(ending(f"{out}.pt"), whole, out)
        assert model_of(out) == model_of("whole"), out
        assert {path.name for path in Path(out).iterdir()} == {path.name for path in Path("whole").iterdir()}, out
    print(f"{len(WRITES)} kills while writing, {len(WRITES)} endings with the same bits")


def test_a_checkpoint_is_staged_beside_its_target(fit, tmp_path: Path):
    """A kill while one is written leaves nothing in the system's folder for temporary files, and the next run clears up."""
    kill = warm.probe("KillWriting", name="last.ckpt", time=2, after="false")
    assert warm.run(fit("out", *kill), tmp_path) == -signal.SIGKILL
    assert [path.name for path in Path("out/checkpoints").iterdir() if path.name != "last.ckpt"] == [".last.ckpt.tmp"]
    assert warm.run(fit("out"), tmp_path) == 0, warm.said(tmp_path)
    assert not list(Path("out").rglob("*.tmp"))


def test_a_fit_killed_twice_and_at_any_moment(fit, whole, tmp_path: Path):
    """Timed kills fall between what the other tests aim at."""
    rng = random.Random(1)
    kills = 0
    for trial in range(3):
        for _ in range(2):
            kills += warm.kill_after(warm.start(fit(f"timed-{trial}"), tmp_path), rng.uniform(0.3, 2.5))
        assert warm.run(fit(f"timed-{trial}"), tmp_path) == 0, warm.said(tmp_path)
        assert model_of(f"timed-{trial}") == model_of("whole")
    assert kills
    print(f"{kills} timed kills")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("hook", "batch", "saved"),
    [
        ("on_train_batch_end", 9, "step 5 is saved in asked/checkpoints/last.ckpt; "),
        ("on_validation_batch_end", 1, "step 3 is saved in asked/checkpoints/last.ckpt; "),
        ("on_sanity_check_start", 1, ""),
        ("on_fit_end", 1, ""),
    ],
)
def test_a_signal_saves_and_says_how_to_resume(
    fit, whole, tmp_path: Path, number: int, hook: str, batch: int, saved: str
):
    kill = [*kill_at(batch, hook, number), "--resume.every_n_steps=1000"]
    assert warm.run(fit("asked", *kill), tmp_path) == 128 + number, warm.said(tmp_path)
    assert re.search(f"stopped on request, {saved}.*resume with: python main.py fit", warm.said(tmp_path))
    assert warm.run(fit("asked"), tmp_path) == 0, warm.said(tmp_path)
    assert model_of("asked") == model_of("whole")
    same(ending("asked.pt"), whole)


def test_a_fit_that_is_asked_to_stop_does_not_train_to_its_end(fit, tmp_path: Path):
    process = warm.start(fit("long", "--trainer.max_epochs=100000"), tmp_path)
    while not Path("long/checkpoints/last.ckpt").exists():
        time.sleep(0.05)
    began = time.perf_counter()
    process.terminate()
    process.join()
    print(f"gone {time.perf_counter() - began:.1f} s after SIGTERM")
    assert time.perf_counter() - began < 60  # it would train for hours
    assert process.exitcode == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    "shape",
    [
        ["--data.batch_size=2", "--trainer.accumulate_grad_batches=4"],
        ["--data.batch_size=8", "--trainer.accumulate_grad_batches=1"],
        [
            "--data.batch_size=4",
            "--trainer.accumulate_grad_batches=1",
            "--trainer.devices=2",
            "--trainer.strategy=ddp_fork",
        ],
    ],
    ids=["smaller", "larger", "two processes"],
)
def test_windows_may_be_cut_in_another_way_from_mid_epoch_on(fit, tmp_path: Path, shape: list[str]):
    """In float64 without dropout the weights at the end are the same to rounding."""
    exact = [
        "--model.dropout=0", "--trainer.precision=64-true", "--trainer.val_check_interval=1.0", "--trainer.check_val_every_n_epoch=1",
    ]  # fmt: skip
    assert warm.run(fit("whole", *exact), tmp_path) == 0, warm.said(tmp_path)
    assert warm.run(fit("cut", *exact, *kill_at(19)), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
    assert warm.run(fit("cut", *exact, *shape), tmp_path) == 0, warm.said(tmp_path)
    whole, cut = ending("whole.pt"), ending("cut.pt")
    assert cut["steps"] == whole["steps"] == 14
    for name, value in whole["weights"].items():
        torch.testing.assert_close(cut["weights"][name], value, rtol=1e-6, atol=1e-7)


def test_another_number_of_rows_a_step_is_another_run(fit, tmp_path: Path):
    assert warm.run(fit("rows", *kill_at(9)), tmp_path) == -signal.SIGKILL
    assert warm.run(fit("rows", "--trainer.accumulate_grad_batches=1"), tmp_path) == 2
    assert "holds another run (rows_per_step: 8 -> 4)" in warm.said(tmp_path)


def test_a_fit_killed_while_it_writes_dynamics_writes_the_same(fit, stages: Stages, tmp_path: Path):
    """Checks after every second step and every epoch of seven, where the fourteenth step is both; then the manifest."""
    mapped = [f"--data.pool.path={stages.files.pool}", "--cartography.every_n_steps=2"]
    assert warm.run(fit("whole", *mapped), tmp_path) == 0, warm.said(tmp_path)
    expected = artifacts.read_manifest(Path("whole/dynamics"))
    assert expected.facts["steps"] == [2, 4, 6, 7, 8, 10, 12, 14]
    for name in ("epoch-00000.parquet", "epoch-00003.parquet", "epoch-00007.parquet", "_manifest.json"):
        kill = warm.probe("KillWriting", name=name)
        assert warm.run(fit(f"killed-{name}", *mapped, *kill), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
        assert not Path(f"killed-{name}/dynamics/_manifest.json").exists()
        assert warm.run(fit(f"killed-{name}", *mapped), tmp_path) == 0, warm.said(tmp_path)
        assert artifacts.read_manifest(Path(f"killed-{name}/dynamics")).fingerprint == expected.fingerprint
        same(ending(f"killed-{name}.pt"), ending("whole.pt"))
