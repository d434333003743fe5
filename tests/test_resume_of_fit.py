"""A fit that was killed anywhere goes on to the very bits of one that was not."""

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from conftest import Stages

from lightning_app import artifacts

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
            f"--trainer.callbacks.file={out}.pt", *more,
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


def test_a_killed_fit_resumes_to_the_same_bits(fit, tmp_path: Path):
    assert warm.run(fit("whole"), tmp_path) == 0, warm.said(tmp_path)
    expected = ending("whole.pt")
    files = {path.name: path.read_bytes() for path in Path("whole/model").iterdir() if "README" not in path.name}
    every = [(batch, before_step) for batch in range(1, MICRO_BATCHES) for before_step in (False, True)]
    moments = random.Random(0).sample(every, 20)
    for batch, before_step in moments:
        out = f"killed-{batch}-{before_step}"
        kill = [
            "--trainer.callbacks+=probes.KillAt", f"--trainer.callbacks.batch={batch}",
            f"--trainer.callbacks.before_step={str(before_step).lower()}",
        ]  # fmt: skip
        assert warm.run(fit(out, *kill), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
        assert not Path(out, "manifest.json").exists()
        assert warm.run(fit(out), tmp_path) == 0, warm.said(tmp_path)
        same(ending(f"{out}.pt"), expected, out)
        for name, content in files.items():
            if name != "labelbridge.json":
                assert Path(out, "model", name).read_bytes() == content, (out, name)
    print(f"{len(moments)} kills, {len(moments)} endings with the same bits")


def test_a_fit_killed_twice_and_at_any_moment(fit, tmp_path: Path):
    """Timed kills fall into checkpoints, validations and exports too."""
    began = time.perf_counter()
    assert warm.run(fit("whole"), tmp_path) == 0, warm.said(tmp_path)
    lasted = time.perf_counter() - began
    expected = ending("whole.pt")
    rng = random.Random(1)
    kills = 0
    for trial in range(6):
        for _ in range(2):
            kills += warm.kill_after(warm.start(fit(f"timed-{trial}"), tmp_path), lasted * rng.uniform(0.2, 1.0))
        assert warm.run(fit(f"timed-{trial}"), tmp_path) == 0, warm.said(tmp_path)
        if Path(f"timed-{trial}.pt").exists():
            same(ending(f"timed-{trial}.pt"), expected, f"timed-{trial}")
    assert kills >= 6
    print(f"{kills} timed kills")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(fit, tmp_path: Path, number: int):
    assert warm.run(fit("whole"), tmp_path) == 0, warm.said(tmp_path)
    kill = [
        "--trainer.callbacks+=probes.KillAt",
        "--trainer.callbacks.batch=9",
        f"--trainer.callbacks.number={int(number)}",
    ]
    assert warm.run(fit("asked", *kill, "--resume.every_n_steps=1000"), tmp_path) == 128 + signal.SIGTERM
    assert (
        "stopped on request, step 5 is saved in asked/checkpoints/last.ckpt; go on with: python main.py fit"
        in warm.said(tmp_path)
    )
    assert warm.run(fit("asked"), tmp_path) == 0, warm.said(tmp_path)
    same(ending("asked.pt"), ending("whole.pt"))


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
    kill = ["--trainer.callbacks+=probes.KillAt", "--trainer.callbacks.batch=19"]
    assert warm.run(fit("whole", *exact), tmp_path) == 0, warm.said(tmp_path)
    assert warm.run(fit("cut", *exact, *kill), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
    assert warm.run(fit("cut", *exact, *shape), tmp_path) == 0, warm.said(tmp_path)
    whole, cut = ending("whole.pt"), ending("cut.pt")
    assert cut["steps"] == whole["steps"] == 14
    for name, value in whole["weights"].items():
        torch.testing.assert_close(cut["weights"][name], value, rtol=1e-6, atol=1e-7)


def test_another_number_of_rows_a_step_is_another_run(fit, tmp_path: Path):
    kill = ["--trainer.callbacks+=probes.KillAt", "--trainer.callbacks.batch=9"]
    assert warm.run(fit("rows", *kill), tmp_path) == -signal.SIGKILL
    assert warm.run(fit("rows", "--trainer.accumulate_grad_batches=1"), tmp_path) == 2
    assert "holds another run (rows_per_step: 8 -> 4)" in warm.said(tmp_path)


def test_a_fit_killed_in_the_callback_writes_the_same_dynamics(fit, stages: Stages, tmp_path: Path):
    """Checks after every second step and every epoch of seven; the fourteenth step is both."""
    mapped = [f"--data.pool.path={stages.files.pool}", "--cartography.every_n_steps=2"]
    assert warm.run(fit("whole", *mapped), tmp_path) == 0, warm.said(tmp_path)
    expected = artifacts.read_manifest(Path("whole/dynamics"))
    assert expected.facts["steps"] == [2, 4, 6, 7, 8, 10, 12, 14]
    for check in (0, 2, 3, 5, 7):
        kill = ["--trainer.callbacks+=probes.KillInCartography", f"--trainer.callbacks.check={check}"]
        assert warm.run(fit(f"killed-{check}", *mapped, *kill), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
        assert not Path(f"killed-{check}/dynamics/manifest.json").exists()
        assert warm.run(fit(f"killed-{check}", *mapped), tmp_path) == 0, warm.said(tmp_path)
        assert artifacts.read_manifest(Path(f"killed-{check}/dynamics")).fingerprint == expected.fingerprint
        same(ending(f"killed-{check}.pt"), ending("whole.pt"))
