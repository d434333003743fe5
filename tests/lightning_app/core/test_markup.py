"""Names in reports, cards and on the terminal are shown as they are; nothing in them is obeyed."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Stages

from labelbridge.lightning_app.core.markup import code, inline
from labelbridge.lightning_app.models.card import model_card

NASTY = "a|b\n# c `d` [e](f) <script>\x1b[31m &amp; *g*"


def test_markup_is_escaped_and_all_is_on_one_line():
    assert inline(NASTY) == r"a\|b # c \`d\` \[e\](f) &lt;script&gt;\x1b\[31m &amp;amp; \*g\*"
    assert code(NASTY) == r"a¦b # c 'd' [e](f) <script>\x1b[31m &amp; *g*"
    assert inline("T_pl-x-k, SRC+GEN") == "T_pl-x-k, SRC+GEN"


def facts_named(name: str) -> dict[str, Any]:
    return {
        "task": {"name": name, "columns": ["text"], "labels": [name, "b"]}, "method": name, "setting": name, "seed": 1,
        "base": name, "inputs": {name: {"paths": [name], "fingerprint": "sha256:0"}}, "dev": {f"dev/{name}": 0.5},
        "monitor": f"dev/{name}", "results": {name: {"rows": 5.0, "accuracy": 0.5, "macro_f1": 0.5}},
    }  # fmt: skip


def test_a_card_has_its_own_lines_and_cells_alone():
    nasty, usual = model_card(facts_named(NASTY)), model_card(facts_named("n"))
    assert nasty.count("\n") == usual.count("\n")
    body, usual_body = (card.split("\n---\n", 1)[1].splitlines() for card in (nasty, usual))  # below what is YAML
    cells = [line.replace(r"\|", "").count("|") for line in body]
    assert cells == [line.count("|") for line in usual_body]
    assert yaml.safe_load(nasty.split("---\n")[1])["tags"][1] == NASTY
    assert "\x1b" not in nasty
    assert "# c" not in [line[:3] for line in nasty.splitlines()]


def test_a_card_of_a_model_that_lacks_a_metric():
    facts = {**facts_named("n"), "results": {"t": {"rows": 5.0, "accuracy": "high"}}}
    assert "| t | 5 |  |  |" in model_card(facts)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["T|x", "[bold]x[/bold]", "\x1b[31mred", "<b>"])
def test_a_report_of_methods_with_odd_names(loop: Stages, name: str):
    assert loop.test(f"--method={name}", "--overwrite=true").code == 0
    outcome = loop.report()
    assert outcome.code == 0, outcome.err
    report = Path("report/report.md").read_text()
    assert inline(name) in report
    assert "\x1b" not in outcome.out + report
    shown = loop.cli("peek", "test")
    assert shown.code == 0, shown.err
    assert "\x1b[31m" not in shown.out
