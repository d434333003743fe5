"""Made-up rows with the lengths of real corpora."""

import json
import random

from labelbridge.lightning_app.core.paths import PROJECT
from labelbridge.lightning_app.core.task import Task

SENTIMENT = Task("sentiment", ["text"], ["negative", "neutral", "positive"])
NLI = Task("nli", ["premise", "hypothesis"], ["entailment", "neutral", "contradiction"])
# Words of a text: mean, standard deviation and longest, as counted in SST5 and SNLI.
LENGTHS = {"text": (19.1, 9.3, 52), "premise": (12.8, 5.7, 69), "hypothesis": (7.4, 3.0, 39)}


def rows_of(task: Task, count: int) -> list[dict[str, str]]:
    """Labelled rows whose texts have as many words as those of SST5 or SNLI, in words of the bundled sample."""
    lines = (PROJECT / "samples/sentiment/gold/train.jsonl").read_text(encoding="utf-8").splitlines()
    words = [word for line in lines for word in json.loads(line)["text"].split()]
    draw = random.Random(0)  # noqa: S311 - made-up rows

    def text(column: str) -> str:
        mean, deviation, longest = LENGTHS[column]
        # A gamma distribution has the long tail that lengths of sentences have.
        length = round(draw.gammavariate((mean / deviation) ** 2, deviation**2 / mean))
        return " ".join(draw.choices(words, k=min(max(length, 2), longest)))

    return [
        {**{column: text(column) for column in task.columns}, "label": draw.choice(task.labels)} for _ in range(count)
    ]
