"""Ctrl-C during start-up: one line, no traceback, status 130."""

import signal
import subprocess
import sys
import time

import pytest
from conftest import PROJECT

# Prints when it has come as far as the import that takes long, then waits there.
SLOW_IMPORT = """
import sys, time
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            print("importing", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Finder())
from labelbridge.__main__ import main
sys.argv = ["main.py", *{words!r}]
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [("torch", ["fit", "--config", "student.yaml"]), ("pyarrow", ["select", "--config", "select.yaml"]),
     ("jsonargparse", ["fit", "--config", "student.yaml"])],
)  # fmt: skip
def test_ctrl_c_while_importing(name: str, words: list[str]):
    script = SLOW_IMPORT.format(name=name, words=words)
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    assert process.stderr is not None
    assert process.stderr.read() == "interrupted\n"
    process.stdout.close()
    process.stderr.close()


def test_the_signal_is_given_back():
    from labelbridge.__main__ import main

    before = signal.getsignal(signal.SIGINT)
    assert main(["selct"]) == 2
    assert signal.getsignal(signal.SIGINT) is before
