"""The layout in CONTRIBUTING: one line for each file, from its docstring. `python tests/layout.py` writes it anew."""

import ast
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "CONTRIBUTING.md"
BEGIN, END = "<!-- layout: written by `make layout` -->\n", "<!-- end of layout -->\n"
ROOMS = ("main.py", "labelbridge", "lightning_app", "datamodules", "modules", "callbacks", "workflow")


def files() -> list[str]:
    """The project's Python files, folder by folder."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *ROOMS]
    tracked = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split()
    names = [name for name in tracked if name.endswith(".py") and (PROJECT / name).is_file()]
    return sorted(names, key=lambda name: (ROOMS.index(name.split("/")[0]), name.count("/") > 1, name))


def layout() -> str:
    """A line for each file with code."""
    lines = ["```"]
    width = max(map(len, files()))
    for name in files():
        tree = ast.parse((PROJECT / name).read_text(encoding="utf-8"))
        if len(tree.body) > 1:
            first = (ast.get_docstring(tree) or "").splitlines()[0]
            lines.append(f"{name:<{width}}  {first}")
    return "\n".join([*lines, "```"]) + "\n"


def with_layout(page: str) -> str:
    """The page with the layout of today."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + layout() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(with_layout(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
