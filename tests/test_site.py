"""The documentation site lists every page; `make site` checks its links."""

import re
from typing import Any

import yaml
from conftest import PROJECT

import labelbridge


def pages(entries: list[Any]) -> list[str]:
    """The files of a navigation, sections included."""
    found: list[str] = []
    for entry in entries:
        for value in entry.values():
            found += pages(value) if isinstance(value, list) else [value]
    return found


def test_the_site_lists_every_page_once():
    settings = yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(pages(settings["nav"])) == sorted(path.name for path in (PROJECT / "docs").glob("*.md"))
    assert settings["strict"] is True
    assert settings["theme"]["font"] is False


def test_the_reference_lists_every_name_of_the_package_once():
    page = (PROJECT / "docs/api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: labelbridge\.(\w+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(set(labelbridge.__all__) - {"__version__"})
