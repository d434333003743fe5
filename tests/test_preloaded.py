"""Commands that run in a copy of a process which has imported the packages."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import PROJECT

from labelbridge import copies
from labelbridge.lightning_app.cli import preloaded

# The server as it is, but for the packages: they are not what is tested, and take ten seconds.
SERVER = """
import os, socket, sys, time
from labelbridge import copies
copies._import_packages = lambda: os.environ.setdefault("SET_BY_AN_IMPORT", "1") == "1"
{change}
asked = copies.serve(socket.socket(fileno=int(sys.argv[1])))
sys.exit(0 if asked is None else copies.run(asked))
"""
ECHOES = "copies.main = lambda words: print(os.getcwd(), os.environ['TMPDIR'], sys.argv[1:], words) or 3"
WAITS = "copies.main = lambda words: (print('ready', flush=True), time.sleep(60))"
FAILS = "copies._import_packages = lambda: False"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")


def environment() -> dict[str, str]:
    """This process's, without what pytest changes from one phase of a test to the next."""
    return {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"}


class Server:
    """A server for tests, and the callers of it."""

    def __init__(self, folder: Path, change: str = "") -> None:
        folder.mkdir()
        self.address = folder / "socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(self.address))
            listener.listen()
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER.format(change=change), str(listener.fileno())],
                cwd=PROJECT, env=environment(), stdin=subprocess.PIPE, pass_fds=[listener.fileno()],
            )  # fmt: skip

    def call(self, *words: str, cwd: Path = PROJECT, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(PROJECT / "main.py"), *words],
            cwd=cwd,
            env={**environment(), preloaded.ADDRESS: str(self.address), **more},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path / "server")
    yield one
    one.close()


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path / "server", WAITS)
    yield one
    one.close()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ended(pid: int) -> bool:
    for _ in range(500):
        with suppress(FileNotFoundError, ProcessLookupError):
            if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
            time.sleep(0.01)
            continue
        return True
    return False


def test_a_copy_has_the_callers_words_folder_environment_output_and_exit_status(tmp_path: Path):
    server = Server(tmp_path / "server", ECHOES)
    caller = server.call("fit", "--out", "a b", cwd=tmp_path, TMPDIR="/elsewhere")
    out, _ = caller.communicate(timeout=60)
    assert out == f"{tmp_path} /elsewhere ['fit', '--out', 'a b'] ['fit', '--out', 'a b']\n"
    assert caller.returncode == 3
    server.close()


def test_a_mistake_is_one_line_in_a_copy_too(server: Server):
    caller = server.call("peek", "absent")
    out, err = caller.communicate(timeout=60)
    assert caller.returncode == 2
    assert out == ""
    assert err.startswith("error: absent")
    assert err.count("\n") == 1


def test_a_caller_of_another_environment_runs_its_command_itself(waiting: Server):
    other = waiting.call("--help", MY_SETTING="1")
    out, _ = other.communicate(timeout=60)
    assert other.returncode == 0
    assert out.startswith("usage: ")
    assert children(waiting.process.pid) == []


def test_a_caller_runs_its_command_itself_where_the_packages_may_not_be_copied(tmp_path: Path):
    server = Server(tmp_path / "server", FAILS)
    asked = server.call("--help")
    out, _ = asked.communicate(timeout=60)
    assert asked.returncode == 0
    assert out.startswith("usage: ")
    server.close()


def test_a_kernel_without_descriptors_of_processes_is_noticed(monkeypatch: pytest.MonkeyPatch):
    assert copies._can_wait_for_processes()

    def refuse(pid: int) -> int:
        raise PermissionError(pid)

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert not copies._can_wait_for_processes()


def test_signals_are_passed_on_and_end_the_caller_as_they_end_the_copy(waiting: Server):
    caller = waiting.call("fit")
    assert caller.stdout is not None
    assert caller.stdout.readline() == "ready\n"
    caller.send_signal(signal.SIGTERM)
    assert caller.wait(10) == 128 + signal.SIGTERM


def test_a_copy_is_killed_with_its_caller(waiting: Server):
    caller = waiting.call("fit")
    assert caller.stdout is not None
    assert caller.stdout.readline() == "ready\n"
    (copy,) = children(waiting.process.pid)
    caller.kill()
    caller.wait(10)
    assert ended(copy)


def test_the_server_ends_with_the_workflow_and_leaves_no_folder(tmp_path: Path):
    server = Server(tmp_path / "server")
    server.close()
    assert server.process.returncode == 0
    assert not (tmp_path / "server").exists()


def test_a_copy_at_work_outlives_the_workflow(waiting: Server):
    caller = waiting.call("fit")
    assert caller.stdout is not None
    assert caller.stdout.readline() == "ready\n"
    (copy,) = children(waiting.process.pid)
    assert waiting.process.stdin is not None
    waiting.process.stdin.close()
    time.sleep(0.2)
    assert waiting.process.poll() is None
    assert Path(f"/proc/{copy}").exists()
    caller.kill()
    caller.wait(10)
    assert waiting.process.wait(10) == 0


def test_a_temporary_folder_with_a_long_name_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.delenv(preloaded.ADDRESS, raising=False)
    preloaded.start({})
    assert preloaded.ADDRESS not in os.environ
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_commands_of_a_program_that_preloads_are_copied():
    script = """
import os
from labelbridge.lightning_app.cli import preloaded
preloaded.start({})
print(preloaded.run_in_copy(["main.py", "validate", "--config", "absent.yaml"]))
print(os.path.dirname(os.environ[preloaded.ADDRESS]))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True)
    status, folder = done.stdout.split()
    assert status == "2", done.stderr
    for _ in range(500):
        if not Path(folder).exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{folder} is left")
