"""Any row can be followed back to its prompt."""

from pathlib import Path

import pytest
from conftest import Stages, write_jsonl

from labelbridge.lightning_app.core import artifacts


@pytest.mark.slow
def test_a_selected_row_leads_back_to_its_prompt(stages: Stages):
    """prompt and raw answer -> cleaned -> pseudolabel -> selected, all by one id."""
    import pyarrow as pa

    rows = [
        {"id": f"tweets/{n}", "system": "Rules.", "user": f"Write tweet {n}.", "prompt_label": label, "domain": "food",
         "text": f'Tweet: "the table was {word} and very long {n}"', "finish": "stop", "error": None}
        for n, (label, word) in enumerate([("negative", "awful"), ("neutral", "white"), ("positive", "lovely")] * 3)
    ]  # fmt: skip
    artifacts.write(Path("raw"), pa.Table.from_pylist(rows), stage="generate")
    words = ("--raw.path=raw", "--exclude=null", "--language=null", "--near_duplicates=null", "--out=pool")
    assert stages.cli("clean", "--config", "clean.yaml", *words).code == 0
    assert stages.teacher().code == 0
    assert stages.pseudolabel("--data.pool.path=pool").code == 0
    assert stages.select("--pool.path=pool", "--class_from=prompt").code == 0
    outcome = stages.cli("peek", "select", "--id=tweets/4")
    assert outcome.code == 0, outcome.err
    order = [outcome.out.index(part) for part in ("select select", "clean pool", "generate raw")]
    assert order == sorted(order)
    for part in ("top: rank", "Write tweet 4.", "Tweet: ", "pseudolabel pseudolabel", "tweets/4"):
        assert part in outcome.out, part


def test_a_pair_leads_back_to_the_prompts_of_both_sides(stages: Stages):
    import pyarrow as pa

    premises = [{"id": "p/0", "user": "Write a premise.", "text": "A man sleeps.", "prompt_label": None}]
    raw = [{"id": "p/0/neutral", "user": "Write a hypothesis.", "premise": "A man sleeps.", "text": "He is very tired.",
            "prompt_label": "neutral"}]  # fmt: skip
    artifacts.write(Path("premises"), pa.Table.from_pylist(premises), stage="generate")
    source = {"source": {"paths": ["premises"], "fingerprint": artifacts.read_manifest(Path("premises")).fingerprint}}
    artifacts.write(Path("raw"), pa.Table.from_pylist(raw), stage="generate", inputs=source)
    words = ("--config", "tasks/nli.yaml", "--raw.path=raw", "--exclude=null", "--out=pool")
    assert stages.cli("clean", "--config", "clean.yaml", *words).code == 0
    outcome = stages.cli("peek", "pool", "--id=p/0/neutral")
    assert outcome.code == 0, outcome.err
    assert "Write a hypothesis." in outcome.out
    assert "Write a premise." in outcome.out


def test_an_unknown_row_is_named(stages: Stages):
    write_jsonl(stages.files.pool, [{"id": "a", "text": "a b c", "prompt_label": "neutral"}])
    assert (
        stages.select("--strategy=random", "--class_from=prompt", "--pseudolabels=null", "--allow_empty=true").code == 0
    )
    outcome = stages.cli("peek", "select", "--id=nobody")
    assert outcome.code == 2
    assert "select: no row with id 'nobody'" in outcome.err
