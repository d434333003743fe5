"""The process that has imported the packages, and its copies that each run a command; see `cli/preloaded.py`."""

import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .__main__ import current_folder_last, main
from .lightning_app.cli.preloaded import ADDRESS, Request, program_of_this_process, send_signal

PACKAGES = (
    "labelbridge.lightning_app.cli.lightning_cli",
    "labelbridge.datamodules",
    "labelbridge.modules",
    "labelbridge.callbacks",
    "transformers.models.bert.modeling_bert",
    "transformers.optimization",
)
# What a command's environment may differ in: nothing reads it while packages are imported.
_FREE = {ADDRESS, "_", "PWD", "OLDPWD", "SHLVL", "TMP", "TEMP", "TMPDIR", "TEMPDIR"}


def run(request: Request) -> int:
    """Run a command in a copy."""
    sys.argv[:] = request.words
    sys.modules["__main__"].__spec__ = None  # what starts this program again then goes by sys.argv
    for number, name in enumerate(("stdin", "stdout", "stderr")):  # what they are, file or terminal, was another's
        old = getattr(sys, name)
        lines = 1 if number == 2 or os.isatty(number) else -1
        new = open(number, "w" if number else "r", lines, old.encoding, old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    return main(request.words[1:])


def serve(listener: socket.socket) -> Request | None:
    """Import the packages, then copy this process for each request until the one that started it has ended.

    Args:
        listener: The socket on which requests come in; its folder is removed in the end.

    Returns:
        The request, in a copy; None in the process itself, at the end.
    """
    current_folder_last()
    environment = dict(os.environ)  # packages set more
    folder = Path(listener.getsockname()).parent
    request = Copies(listener, environment).make() if _import_packages() else None
    if request is None:
        shutil.rmtree(folder, ignore_errors=True)
    return request


class Copies:
    """Copies of this process, each with a command to run.

    Args:
        listener: The socket on which requests come in.
        environment: What a command's environment must be.
    """

    def __init__(self, listener: socket.socket, environment: Mapping[str, str]) -> None:
        self.listener = listener
        self.environment = _fixed(environment)
        self.selector = selectors.DefaultSelector()
        self.processes: dict[int, tuple[int, socket.socket]] = {}  # file descriptor of a copy -> its id and its caller

    def make(self) -> Request | None:
        """Make them; returns in each copy with its request, and without one here when all is over."""
        self.selector.register(self.listener, selectors.EVENT_READ, self._take_request)
        self.selector.register(0, selectors.EVENT_READ, self._stop_listening)
        while self.selector.get_map():
            for key, _ in self.selector.select():
                request: Request | None = key.data()
                if request is not None:
                    return request
        return None

    def _take_request(self) -> Request | None:
        connection, _ = self.listener.accept()
        request, files = self._receive(connection)
        pid = os.fork() if request is not None else None
        if pid == 0 and request is not None:
            self._leave(connection)
            _become(request, files)
        for file in files:
            os.close(file)
        if pid == 0:
            return request
        if pid is None:
            connection.close()
        else:
            self._watch(pid, connection)
        return None

    def _receive(self, connection: socket.socket) -> tuple[Request | None, list[int]]:
        """A request and the caller's input and output; none where it is of another environment, or has gone away."""
        files: list[int] = []
        try:
            _, files, _, _ = socket.recv_fds(connection, 1, 3)
            with connection.makefile("r") as lines:
                request = Request(*json.loads(lines.readline()))
        except (OSError, ValueError, TypeError):
            return None, files
        is_same = request.program == program_of_this_process() and _fixed(request.environment) == self.environment
        return (request if is_same and len(files) == 3 else None), files

    def _watch(self, pid: int, connection: socket.socket) -> None:
        process = os.pidfd_open(pid)
        self.processes[process] = pid, connection
        self.selector.register(process, selectors.EVENT_READ, lambda: self._tell_status(process))
        self.selector.register(connection, selectors.EVENT_READ, lambda: self._kill(process))
        with suppress(OSError):
            connection.sendall(f"{pid}\n".encode())

    def _kill(self, process: int) -> None:
        """The caller has ended before its copy."""
        if process in self.processes:
            pid, connection = self.processes[process]
            self.selector.unregister(connection)
            send_signal(pid, signal.SIGKILL)

    def _tell_status(self, process: int) -> None:
        """A copy has ended."""
        pid, connection = self.processes.pop(process)
        self.selector.unregister(process)
        os.close(process)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(KeyError):
            self.selector.unregister(connection)
        with connection, suppress(OSError):
            connection.sendall(f"{status if status >= 0 else 128 - status}\n".encode())

    def _stop_listening(self) -> None:
        """The workflow has ended; copies that are at work stay."""
        self.selector.unregister(0)
        self.selector.unregister(self.listener)

    def _leave(self, connection: socket.socket) -> None:
        """Close, in a copy, what belongs to the process that it was made from."""
        self.selector.close()
        self.listener.close()
        connection.close()
        for process, (_, other) in self.processes.items():
            os.close(process)
            other.close()


def _import_packages() -> bool:
    """Import everything; whether this process may be copied afterwards."""
    import torch

    for name in PACKAGES:
        importlib.import_module(name)
    return not torch.accelerator.is_available() and _can_wait_for_processes()


def _can_wait_for_processes() -> bool:
    """Whether the kernel has descriptors of processes: Linux 5.3, where no container forbids them."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _become(request: Request, files: list[int]) -> None:
    """Take a caller's place: its folder, environment, input and output."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    for key in _FREE - request.environment.keys():
        os.environ.pop(key, None)
    os.environ.update(request.environment)
    os.chdir(request.folder)


def _fixed(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key not in _FREE}


if __name__ == "__main__":
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    sys.exit(0 if asked is None else run(asked))
