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


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_heaps_of_threads_are_kept_too(monkeypatch: pytest.MonkeyPatch):
    asked = {}
    monkeypatch.setattr(memory, "_of_glibc", lambda name: lambda what, size: not asked.update({what: size}))
    assert memory.keep_freed_memory()
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # as in malloc.h
    assert asked == {mmap_threshold: 2**30, trim_threshold: 2**30, top_pad: 2**26}
