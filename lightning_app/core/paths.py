"""Where a path given in a config or on the command line is looked up."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def find(path: str | Path, *below: str) -> Path | None:
    """Look a path up in the current folder, then beside `main.py`, then in the folders `below` beside `main.py`.

    Args:
        path: The path as the user wrote it.
        below: Folders beside `main.py` to try last, such as `"configs"`.

    Returns:
        The first that exists, or None.
    """
    candidates = [Path(path), PROJECT / path, *(PROJECT / folder / path for folder in below)]
    return next((candidate for candidate in candidates if candidate.exists()), None)
