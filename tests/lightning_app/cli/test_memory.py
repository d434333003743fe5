"""The C library's memory."""

import sys

import pytest

from labelbridge.lightning_app.cli import memory


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_glibc_keeps_what_is_freed():
    assert memory.keep_freed_memory()


def test_another_system_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert not memory.keep_freed_memory()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_memory_is_given_back():
    assert memory.give_freed_memory_back()


def test_another_system_gives_memory_back_by_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert not memory.give_freed_memory_back()
