"""What a method's name means."""

import re

import pytest
from conftest import PROJECT

from labelbridge.lightning_app.evaluation.method_names import meaning


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("SRC", "gold only"),
        ("T-top-k", "highest teacher probability, with the teacher's probabilities"),
        ("T_pl-amb-2500", "varies most over the teacher's epochs (2500 per class), with prompt labels"),
        ("T-hard-top-k", "highest teacher probability, with the teacher's most likely class"),
        ("T-hard-k", "lowest teacher probability of their class, with the teacher's probabilities"),
    ],
)
def test_names_of_the_paper(method: str, said: str):
    assert said in str(meaning(method))


def test_a_name_of_the_users_own_has_no_meaning_here():
    assert meaning("KL weight 3") is None


def test_the_glossary_lists_no_method_without_a_meaning():
    page = (PROJECT / "docs/glossary.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ((?:SRC|GEN|T)[\w+-]*) \|", page, re.MULTILINE)
    assert len(listed) >= 8
    assert [method for method in listed if "x" not in method and meaning(method) is None] == []
