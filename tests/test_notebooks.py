"""Every notebook runs from its first cell to its last."""

from pathlib import Path

import nbformat
import pytest
from conftest import PROJECT
from nbclient import NotebookClient

NOTEBOOKS = sorted((PROJECT / "examples/notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, loop_once: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPORT", str(loop_once / "report"))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    cells = nbformat.read(notebook, as_version=4)
    NotebookClient(cells, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(PROJECT)}}).execute()
    assert all(cell["execution_count"] for cell in cells.cells if cell.cell_type == "code")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_its_outputs(notebook: Path):
    cells = nbformat.read(notebook, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
