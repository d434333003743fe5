"""Where a path given in a config or on the command line is looked up."""

import os
from pathlib import Path

# The checkout; where the package is installed, the package itself. `configs` and `samples` lie in either.
PROJECT = Path(__file__).resolve().parents[2]


def find(path: str | Path, *below: str) -> Path | None:
    """Look a path up in the current folder, then in the project, then in its folders `below`.

    Args:
        path: The path as the user wrote it.
        below: Folders of the project to try last, such as `"configs"`.

    Returns:
        The first that exists, or None.
    """
    candidates = [Path(path), PROJECT / path, *(PROJECT / folder / path for folder in below)]
    # `Path.exists` raises for a name that is too long.
    return next((candidate for candidate in candidates if os.path.exists(candidate)), None)  # noqa: PTH110
