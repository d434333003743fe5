"""What `pip install .` brings along."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import PROJECT


@pytest.mark.slow
def test_the_wheel_holds_every_config_sample_and_template(tmp_path: Path):
    """Built from a copy, so that nothing is left in the checkout and no earlier build can help."""
    tracked = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        target = tmp_path / "copy" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to((PROJECT / name).readlink()) if (PROJECT / name).is_symlink() else target.write_bytes(
            (PROJECT / name).read_bytes()
        )
    build = [
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(tmp_path / "copy"),
    ]
    subprocess.run([sys.executable, "-m", *build], check=True)
    packed = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    rooms = ("configs/", "samples/", "lightning_app/", "modules/", "datamodules/", "callbacks/")
    expected = {f"labelbridge/{name}" for name in tracked.splitlines() if name.startswith(rooms)}
    assert expected <= packed, expected - packed
    assert "labelbridge/lightning_app/models/templates/classifier.md" in packed
