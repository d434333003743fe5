"""Files of the user: opened only where they are regular."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from labelbridge.lightning_app.core import artifacts, fingerprint
from labelbridge.lightning_app.core.documents import read_json
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.files import filled_lines, opened
from labelbridge.lightning_app.core.yaml_files import load_mapping
from labelbridge.lightning_app.data.file_formats import read_file
from labelbridge.lightning_app.evaluation.richness import read_lexicon
from labelbridge.lightning_app.models.locate import locate

READERS: dict[str, Callable[[Path], object]] = {
    "x.json": read_json,
    "x.yaml": load_mapping,
    "x.jsonl": read_file,
    "x.parquet": read_file,
    "senti.txt": lambda file: read_lexicon(str(file)),
    "weights.bin": lambda file: fingerprint.of_files([file]),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_regular_file_is_refused_before_it_is_read(tmp_path: Path, name: str, kind: str):
    (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: (not a regular file|Is a directory); "):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("inside", ["model.safetensors", "1_Pooling/config.json"])
def test_a_model_with_a_pipe_in_it_is_refused(tmp_path: Path, inside: str):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / inside).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / inside)
    with pytest.raises(InputError, match=f"{inside}: not a regular file"):
        locate(str(tmp_path))


def test_lines_are_numbered_as_an_editor_does(tmp_path: Path):
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfone\n\n two\r\n"))
    with opened(tmp_path / "x.txt.gz") as stream:
        assert list(filled_lines(stream, tmp_path / "x.txt.gz")) == [(1, "one\n"), (3, " two\r\n")]


def test_a_folder_in_the_place_of_a_file_leaves_nothing_half_written(tmp_path: Path):
    (tmp_path / "_identity.json").mkdir()
    with pytest.raises(IsADirectoryError):
        artifacts.write_json(tmp_path / "_identity.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["_identity.json"]
