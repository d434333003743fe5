"""Cleaning at the paper's scale: 200,000 raw generations to a pool."""

import json
import random
import resource
import tempfile
import time
from pathlib import Path

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.lightning_app.generation.cleaning import clean

SAMPLE = Path(__file__).resolve().parents[1] / "samples/sentiment/pool/train.jsonl"


def run(full: bool = False) -> dict[str, float | int]:
    """Rows per second with every filter on; `full` is the whole 200,000, the default a tenth."""
    count = 200_000 if full else 20_000
    task = Task("sentiment", ["text"], ["negative", "neutral", "positive"])
    with tempfile.TemporaryDirectory() as folder:
        raw = write_raw(Path(folder) / "raw.jsonl", count)
        began = time.perf_counter()
        clean(task, Source(path=str(raw)), out=f"{folder}/pool")
        took = time.perf_counter() - began
        kept = artifacts.read_manifest(Path(folder) / "pool").rows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"rows_per_s": count / took, "seconds": took, "rows": count, "kept": kept, "peak_gb": peak}


def write_raw(path: Path, count: int) -> Path:
    """Halves of the sample's sentences put together, some with the usual flaws."""
    rng = random.Random(0)  # noqa: S311 - made-up rows
    words = [json.loads(line)["text"].split() for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(count):
            one, other = rng.choice(words), rng.choice(words)
            text = " ".join([*one[: max(3, len(one) // 2)], *other[len(other) // 2 :]])
            text = f'Review: "{text}"' if rng.random() < 0.1 else text
            stream.write(
                json.dumps({"text": text, "prompt_label": rng.choice(["negative", "neutral", "positive"])}) + "\n"
            )
    return path
