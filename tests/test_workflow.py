"""The grids: what Snakemake would run, without running it."""

import itertools
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

from labelbridge.lightning_app.core.yaml_files import load_mapping

GRIDS = sorted(path.name for path in (PROJECT / "workflow").glob("*.yaml"))
FOLDERS = ("data", "raw_pool", "pool_folder", "other_teacher")  # what the evidence grids ask for on the command line


def plan(grid: str, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "-s", "workflow/Snakefile", "--configfile", f"workflow/{grid}"]
    more = ["--cores", "2", "--nolock", "--dry-run", "--printshellcmds", "--config", f"out={out}", *words]
    return subprocess.run([*command, *more], cwd=PROJECT, capture_output=True, text=True)


def planned(grid: str, out: Path, *words: str) -> str:
    """The commands of a whole run."""
    done = plan(grid, out, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_can_be_planned(grid: str, tmp_path: Path):
    text = (PROJECT / "workflow" / grid).read_text()
    folders = [f"{name}=my/{name}" for name in FOLDERS if f"{{{name}}}" in text]
    assert "main.py report" in planned(grid, tmp_path / "out", *folders)


@pytest.mark.slow
def test_the_slurm_profile_can_be_planned(tmp_path: Path):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    said = planned("paper.yaml", tmp_path / "out", "--workflow-profile", "workflow/profiles/slurm")
    assert "mem_mb=32000" in said
    assert "cpus_per_task=8" in said
    assert "gpu=1" in said
    assert "main.py report" in said


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


def training(command: str) -> dict[str, str]:
    """Rows per step, epochs and learning rate of a planned fit: its configurations, then its options."""
    words = shlex.split(command.partition(" > ")[0])
    keys = ("batch_size", "accumulate_grad_batches", "max_epochs", "learning_rate")
    found: dict[str, str] = {}
    for word, value in itertools.pairwise(words):
        if word == "--config":
            config = load_mapping(PROJECT / "configs" / value)
            parts = [
                config.get("trainer", {}),
                *(config.get(part, {}).get("init_args", {}) for part in ("data", "model")),
            ]
            found |= {key: str(float(part[key])) for part in parts for key in keys if key in part}
        elif (key := word.rpartition(".")[2]) in keys:
            found[key] = str(float(value))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("grid", GRIDS)
def test_all_methods_of_a_grid_are_trained_alike(grid: str, tmp_path: Path):
    """SRC is the teacher; it would be at an advantage, or the students, with other rows per step."""
    text = (PROJECT / "workflow" / grid).read_text()
    folders = [f"{name}=my/{name}" for name in FOLDERS if f"{{{name}}}" in text]
    fits = commands(planned(grid, tmp_path / "out", *folders), "fit")
    # Learning rates are what some methods are about.
    others = {f"/{name}/" for name in ("SRC-slower", "SRC-faster")}
    ways = {out: training(command) for out, command in fits.items() if not any(name in out for name in others)}
    assert len(ways) > 1
    assert all(way == next(iter(ways.values())) for way in ways.values()), ways


def commands(said: str, stage: str) -> dict[str, str]:
    """The planned commands of a stage, by their output folder."""
    lines = [line for line in said.splitlines() if f"main.py {stage}" in line]
    return {line.split("--out ")[1].split()[0]: line for line in lines}


@pytest.mark.slow
def test_code_mixing_takes_two_hops_in_both_orders(tmp_path: Path):
    out = tmp_path / "out"
    said = planned("paper_codemix.yaml", out)
    made = commands(said, "predict")
    for part in ("train", "dev", "pool"):
        assert f'"path": "{out}/hi/{part}"' in made[f"{out}/hi-Latn/{part}"]
    assert f'"path": "{out}/select/top/seed0"' in made[f"{out}/hi/selected/top/seed0"]
    assert f'"path": "{out}/hi/selected/top/seed0"' in made[f"{out}/hi-Latn/selected/top/seed0"]
    students = commands(said, "fit")
    first = students[f"{out}/hi-Latn/T-top-k-select-first/seed0/student"]
    assert f"--data.selection {out}/hi-Latn/selected/top/seed0" in first
    # One job at a time on the one GPU, whatever the number of cores.
    assert "gpu=1" in said


@pytest.mark.slow
def test_only_what_is_looked_at_is_made(tmp_path: Path):
    """Dynamics of the selecting seed alone; pseudolabels for every student that learns from them; what `needs` says."""
    out = tmp_path / "out"
    said = planned(
        "selectors.yaml", out,
        'selections={"lot": {"strategy": "random", "class_from": "prompt"}, "mine": {"strategy": "my.own", '
        '"needs": ["dynamics", "embeddings"]}, "prompt": {"strategy": "top", "class_from": "prompt"}}',
        'methods={"SRC": {}, "GEN": {"selection": "lot", "flags": {"model.synthetic_labels": "prompt"}}, '
        '"T-mine": {"selection": "mine"}, "T-prompt": {"selection": "prompt"}}',
    )  # fmt: skip
    teachers, selects = commands(said, "fit"), commands(said, "select")
    assert ["--data.pool" in teachers[f"{out}/teacher/seed{seed}"] for seed in (0, 1, 2)] == [True, False, False]
    assert "--pseudolabels null" in selects[f"{out}/select/lot/seed0"]
    assert f"--pseudolabels {out}/pseudolabel/seed0" in selects[f"{out}/select/prompt/seed0"]
    mine = selects[f"{out}/select/mine/seed0"]
    assert f"--dynamics {out}/teacher/seed0/dynamics" in mine
    assert f"--embeddings {out}/embed" in mine
    assert "needs" not in mine
    lot = planned("selectors.yaml", out, 'selections={"lot": {"strategy": "random", "class_from": "prompt"}}',
                  'methods={"T-rand-k": {"selection": "lot"}}')  # fmt: skip
    assert f"--pseudolabels {out}/pseudolabel/seed0" in commands(lot, "select")[f"{out}/select/lot/seed0"]


@pytest.mark.slow
def test_places_that_share_their_targets_are_told_apart_in_the_report(tmp_path: Path):
    said = planned("paper.yaml", tmp_path / "out", 'translations={"mr": {}, "hi": {}}',
                   'methods={"SRC": {"in": ["mr", "hi"]}}')  # fmt: skip
    assert {line.split("--setting ")[1].split(" --")[0] for line in said.splitlines() if "--setting" in line} == {
        "'translate-train, mr'", "'translate-train, hi'",
    }  # fmt: skip


@pytest.mark.slow
def test_a_grid_names_its_data_folder_on_the_command_line(tmp_path: Path):
    said = planned("evidence_nli.yaml", tmp_path / "out", "data=my/data")
    assert '"path": "my/data/snli/train.jsonl"' in said
    assert "{data}" not in said
    refused = plan("evidence_nli.yaml", tmp_path / "out")
    assert refused.returncode != 0
    assert "--config data=FOLDER" in refused.stderr + refused.stdout


@pytest.mark.slow
def test_only_the_first_seeds_weights_are_kept_where_the_grid_says_so(tmp_path: Path):
    out = tmp_path / "out"
    tests = commands(planned("demo.yaml", out), "test")
    dropped = {folder for folder, line in tests.items() if f"&& rm -r {out}" in line}
    assert dropped == {folder for folder in tests if "/seed1/" in folder}
    assert len(dropped) == len(tests) / 2


@pytest.mark.slow
def test_additions_that_read_translations_or_other_pseudolabels_wait_for_them(tmp_path: Path):
    out = tmp_path / "out"
    said = planned("beyond.yaml", out, *(f"{name}=my/{name}" for name in ("data", "pool_folder", "other_teacher")))
    fits, made, selects = (commands(said, stage) for stage in ("fit", "predict", "select"))
    consistent = fits[f"{out}/SRC-consistent/seed0/teacher"]
    assert f"--data.views {out}/mr/train" in consistent
    assert f"{out}/mr/train" in made
    assert "--model.ratio 0.5" in made[f"{out}/mr-mixed/train"]
    assert f"{out}/mr/pool" not in made  # nothing reads it
    translated = fits[f"{out}/SRC-translated-dev/seed2/teacher"]
    assert translated.count("--data.dev") == 1
    assert f"{out}/mr/dev" in translated.partition("--data.dev")[2].split(" --")[0]
    assert "--model.prior uniform" in made[f"{out}/pseudolabel-uniform/seed0"]
    assert f"--model.model {out}/teacher/seed0/model" in made[f"{out}/pseudolabel-uniform/seed0"]
    assert f"--model.model {out}/SRC-logit-adjusted/seed0/teacher/model" in made[f"{out}/pseudolabel-adjusted/seed0"]
    chosen = selects[f"{out}/select/top-uniform/seed0"]
    assert f"--pseudolabels {out}/pseudolabel-uniform/seed0 " in chosen
    assert "--pseudolabels uniform" not in chosen
    assert f"--pseudolabels {out}/pseudolabel/seed0 " in selects[f"{out}/select/top/seed0"]
    tests = commands(said, "test")
    assert f"--model.model {out}/SRC-uniform/seed1/teacher/model" in tests[f"{out}/SRC-uniform/seed1/test"]
    assert f"--model.model {out}/teacher/seed1/model" in tests[f"{out}/SRC/seed1/test"]


@pytest.mark.slow
def test_a_mistake_in_a_grid_is_one_line(tmp_path: Path):
    done = plan("demo.yaml", tmp_path / "out", "seed_chian=full")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: grid: seed_chian is not known, did you mean 'seed_chain'?; see workflow/languages.yaml for an example"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_run_prints_one_line_per_job_and_no_name_breaks_its_commands(tmp_path: Path):
    out = tmp_path / "it's my [grid] & more"
    command = [sys.executable, "-m", "snakemake", "-s", "workflow/Snakefile", "--configfile", "workflow/demo.yaml"]
    done = subprocess.run(
        [*command, "--cores", "1", str(out / "clean/_manifest.json"), "--config", f"out={out}"],
        cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "[1 of 1] clean (" in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) < 20
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert (out / "logs/clean.txt").is_file()
