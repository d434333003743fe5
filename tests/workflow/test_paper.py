"""The paper's grids together: every model once, and the teachers that they share."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PROJECT

from labelbridge.lightning_app.core.errors import InputError
from workflow.grid import read
from workflow.jobs import Jobs

PAPER = sorted(path.stem for path in (PROJECT / "workflow").glob("paper*.yaml"))
SHARING = ["paper_codemix", "paper_cross_domain", "paper_imbalance", "paper_k_curve"]


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(PROJECT)


def jobs(grid: str, **changes: Any) -> Jobs:
    text = Path(f"workflow/{grid}.yaml").read_text()
    folder = {"pool_folder": "my/pool"} if "{pool_folder}" in text else {}
    return Jobs(read({**yaml.safe_load(text), **folder, **changes}))


@pytest.mark.parametrize("grid", SHARING)
def test_one_teacher_is_trained_once_for_all_grids_on_the_same_gold(grid: str):
    paper, sharing = jobs("paper"), jobs(grid)
    for seed in sharing.grid.seeds:
        assert sharing.teacher("en", seed) == paper.teacher("en", seed)
        assert sharing.inputs_of_teacher("en", seed) == paper.inputs_of_teacher("en", seed)
    assert sharing.inputs_of_pseudolabel("en", "", 0)[0] == "runs/paper/teacher/seed0/_manifest.json"
    assert "runs/paper/teacher/seed1/model" in sharing.test("en", "SRC", 1)


def test_the_teacher_of_the_targets_domain_labels_the_pool_for_students_on_the_same_gold():
    grid, nli = jobs("paper_target_domain"), jobs("paper_nli")
    assert grid.teacher("en", 0) == nli.teacher("en", 0)
    assert "data:mnli/train" in grid.own_teacher("en", "SRC-MNLI", 0)
    assert "runs/paper_target_domain/SRC-MNLI/seed0/teacher/model" in grid.pseudolabel("en", "mnli", 0)
    assert "--pseudolabels runs/paper_target_domain/pseudolabel-mnli/seed0" in grid.select("en", "top-mnli", 0)
    student = grid.student("en", "T-top-k-MNLI", 0)
    assert "snli" in student
    assert "mnli/train" not in student


def test_the_number_of_tests_is_that_of_methods_places_and_seeds():
    counts = {grid: len(jobs(grid).tests) for grid in PAPER}
    assert counts == {
        "paper": 11 * 2 * 2, "paper_codemix": 3 * 2 * 2 + 2, "paper_cross_domain": 6 * 2, "paper_imbalance": 5 * 2,
        "paper_k_curve": 6 * 2, "paper_nli": 11 * 4 * 2, "paper_product": 11 * 2 * 6, "paper_target_domain": 6 * 2,
    }  # fmt: skip


@pytest.mark.parametrize("grid", ["paper", "paper_nli", "paper_product"])
def test_every_selection_reports_its_diversity(grid: str):
    made = jobs(grid)
    assert all("--embeddings" in made.select("en", name, 0) for name in made.grid.selections)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gold": {"train": "data:snli/train", "dev": "data:sst5/dev"}}, "gold: differs from that of the grid"),
        ({"teacher": {"model.learning_rate": 1}}, "teacher: differs from that of the grid"),
        ({"overlays": {"teacher": ["hardware/cpu.yaml"]}}, "overlays.teacher: differs"),
        ({"teachers": "workflow/paper_k_curve.yaml"}, "teachers: names a grid that"),
        ({"selections": {"top-2500": {"strategy": "easy"}}, "methods": {"T": {"selection": "top-2500"}},
          "pool": {"path": "other"}}, "records training dynamics of another pool"),
    ],
)  # fmt: skip
def test_a_teacher_that_was_trained_in_another_way_is_refused(changes: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said):
        jobs("paper_k_curve", **changes)
