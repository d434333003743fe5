"""The rooms and who may look into which."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT


def test_imports_form_a_star():
    told = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=PROJECT, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout


def test_only_artifacts_opens_artifact_files():
    """Shards and manifests are read and written in one place (the spool's parts are not yet an artifact, a
    user's Parquet file is none)."""
    users = {
        path.relative_to(PROJECT).as_posix()
        for room in ("lightning_app", "datamodules", "modules", "callbacks")
        for path in (PROJECT / room).rglob("*.py")
        if "parquet" in {name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import)
                         for name in (alias.name.rsplit(".", 1)[-1] for alias in node.names)}
    }  # fmt: skip
    assert users == {
        "lightning_app/core/artifacts.py",
        "lightning_app/core/spool.py",
        "lightning_app/data/file_formats.py",
    }


def test_everything_is_imported_through_the_one_namespace():
    """A class imported as `modules.X` would be another one than `labelbridge.modules.X`."""
    tracked = subprocess.run(
        ["git", "ls-files", "*.py", "*.md"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    bare = re.compile(r"^\s*(from|import) (lightning_app|datamodules|modules|callbacks)\b", re.MULTILINE)
    assert not [name for name in tracked.stdout.split() if bare.search((PROJECT / name).read_text())]


@pytest.mark.parametrize("word", ["pickle", "trust_remote_code=True", "load(.*weights_only=False"])
def test_nothing_unsafe_is_asked_for(word: str):
    rooms = ("lightning_app", "datamodules", "modules", "callbacks")
    files = [path for room in rooms for path in (PROJECT / room).rglob("*.py")]
    assert not [path for path in files if re.search(word.replace("(", r"\("), path.read_text())]
