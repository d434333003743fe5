"""What the documentation looks like, and that what it names is there."""

import re
import subprocess
from pathlib import Path

import pytest
from conftest import PROJECT

PAGES = [
    PROJECT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.split()
    if "templates" not in Path(name).parts
]
WIDTH = 110
# Words of this project's former dialect, and where they are right.
AVOIDED = re.compile(
    r"\b(whole|mend(s|ed)?|told|stands twice|by lot|of (its|one's|your|their) own|given that|gone on|goes on)\b", re.IGNORECASE
)  # fmt: skip


def prose(page: Path) -> list[str]:
    """Lines outside code blocks, formulas (four spaces) and tables."""
    lines, is_code = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        is_code ^= line.lstrip().startswith("```")
        if not is_code and not line.startswith("    ") and not line.lstrip().startswith("|"):
            lines.append(line)
    return lines


def names(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "results.md"], ids=names)
def test_lines_are_wrapped(page: Path):
    assert not [line for line in prose(page) if len(line) > WIDTH]


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_and_named_files_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text)]
    named = [
        PROJECT / file for file in re.findall(r"`((?:tests|configs|workflow|lightning_app|modules)/[\w./-]+)`", text)
    ]
    assert [path for path in [*links, *named] if not path.exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "results.md"], ids=names)
def test_pages_use_the_readers_words(page: Path):
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert [match.group() for match in AVOIDED.finditer(text)] == []


def test_headers_of_configs_use_the_readers_words():
    files = [
        *(PROJECT / "configs").rglob("*.yaml"),
        *(PROJECT / "workflow").glob("*.yaml"),
        PROJECT / "workflow/Snakefile",
    ]
    comments = {file.name: re.findall(r"#.*", file.read_text(encoding="utf-8")) for file in files}
    found = [(name, line) for name, lines in comments.items() for line in lines if AVOIDED.search(line)]
    assert found == []
