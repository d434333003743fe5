"""How this program is called, for every line that tells the user what to type.

Messages are written for a checkout (`python main.py fit ...`). They reach the user through `as_called`, which puts the
name by which this process was started in its place; so does a command that an artifact made elsewhere has recorded.
"""

import sys
from pathlib import Path

from .paths import PROJECT

IN_CHECKOUT = "python main.py"
INSTALLED = "labelbridge"


def program() -> str:
    """`python main.py`, `labelbridge` or `python -m labelbridge`, as this process was started.

    A process that was started otherwise, such as a notebook, gets what works: `labelbridge` where the package is
    installed, `python main.py` in a checkout.
    """
    script = Path(sys.argv[0]) if sys.argv else Path()
    if script.stem == INSTALLED:
        return INSTALLED
    if script.name == "__main__.py" and script.parent.name == INSTALLED:
        return f"python -m {INSTALLED}"
    return IN_CHECKOUT if (PROJECT / "main.py").is_file() else INSTALLED


def as_called(text: str) -> str:
    """The text with its commands as they are to be typed here."""
    return text.replace(IN_CHECKOUT, program())
