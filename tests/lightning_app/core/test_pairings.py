"""Options that mean something only beside others."""

from typing import Annotated

import pytest

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.pairings import With, Without, check_pairings


@check_pairings
def draw(
    out: str | None = "o",
    html: bool = True,
    colours: Annotated[int, With("html"), With("out")] = 3,
    name: Annotated[str | None, Without("html", "names itself")] = None,
) -> int:
    return colours


def test_an_option_at_its_default_needs_nothing():
    assert draw(out=None, html=False) == draw(None, html=False, colours=3) == 3


def test_an_option_beside_the_one_it_is_for():
    assert draw(colours=5) == 5
    assert draw(html=False, name="x") == 3


def test_an_option_without_the_one_it_is_for_is_one_line():
    with pytest.raises(InputError, match=r"^colours is 5 without html, so that it has no effect; give html too"):
        draw(html=False, colours=5)
    with pytest.raises(InputError, match="colours is 5 without out"):
        draw(None, colours=5)


def test_an_option_beside_one_that_takes_its_place_is_one_line():
    with pytest.raises(InputError, match=r"^name is 'x' with html, which names itself; leave one of the two out$"):
        draw(name="x")
