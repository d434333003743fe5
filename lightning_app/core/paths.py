"""Where a path given in a config or on the command line is looked up."""

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
    return next((candidate for candidate in candidates if candidate.exists()), None)
