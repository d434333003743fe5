"""The C library's allocator."""

import sys

import pytest

from lightning_app import allocator


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_glibc_keeps_what_is_freed():
    assert allocator.keep_freed_memory()


def test_another_system_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert not allocator.keep_freed_memory()
