"""The grids: what Snakemake would run, without running it."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

GRIDS = sorted(path.name for path in (PROJECT / "workflow").glob("*.yaml"))


def planned(grid: str, out: Path, *words: str) -> str:
    """The commands of a whole run."""
    command = [sys.executable, "-m", "snakemake", "-s", "workflow/Snakefile", "--configfile", f"workflow/{grid}"]
    more = ["--cores", "2", "--nolock", "--dry-run", "--printshellcmds", "--config", f"out={out}", *words]
    done = subprocess.run([*command, *more], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_can_be_planned(grid: str, tmp_path: Path):
    assert "main.py report" in planned(grid, tmp_path / "out")


@pytest.mark.slow
def test_selectors_are_tested_against_random_and_know_what_they_need(tmp_path: Path):
    target_text = 'target_text={"path": "my/text.jsonl"}'
    near = 'selections={"near": {"strategy": "near_target"}, "random": {"strategy": "random"}}'
    methods = 'methods={"SRC": {}, "T-near": {"selection": "near"}, "T-rand-k": {"selection": "random"}}'
    said = planned("selectors.yaml", tmp_path / "out", target_text, near, methods)
    assert "--baseline T-rand-k" in said
    assert "--data.prompt_labels false" in said
    selects = [line for line in said.splitlines() if "main.py select" in line]
    assert all(f"--embeddings {tmp_path}/out/embed " in line for line in selects)
    assert ["--target_embeddings" in line for line in selects].count(True) == 1
