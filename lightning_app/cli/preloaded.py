"""Commands of a grid in processes that need not import anything: they are forked from one that has.

Importing torch, Lightning and transformers takes ten seconds of a processor core, for each of a grid's many commands.
So the workflow starts one process that imports them, `labelbridge/copies.py`, and `python main.py COMMAND` asks it for
a copy of itself, which runs the command with the caller's folder, environment, input and output. The caller waits,
passes signals on, and ends with the same exit status; when the caller is killed, so is the copy. Where there is no such
process, or one that was started for another environment, the command runs as it always does.

For Linux without accelerators alone: a process that has touched a GPU cannot be copied.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ADDRESS = "LABELBRIDGE_PRELOADED"  # the environment variable that holds the path of the socket
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_started: list[subprocess.Popen[bytes]] = []  # kept, so that its input stays open until this process ends


class Request(NamedTuple):
    """A command that a copy is to run."""

    program: list[str]  # the Python and the code that the caller would run it with
    words: list[str]  # sys.argv
    folder: str
    environment: dict[str, str]


def start(environment: Mapping[str, str]) -> None:
    """Start the process that commands are copied from; it ends when this one does.

    Where that cannot be, such as below a temporary folder whose name is too long for a socket, every command runs by
    itself.

    Args:
        environment: What the commands' environment has beyond this process's own.
    """
    if sys.platform == "linux" and not os.environ.get(ADDRESS):
        with suppress(OSError):
            _start(environment)


def _start(environment: Mapping[str, str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="labelbridge-"))
    address = str(folder / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(address)
        except OSError:
            folder.rmdir()
            raise
        listener.listen(128)  # commands wait here while the packages are imported
        process = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-m", "labelbridge.copies", str(listener.fileno())],
            env={**os.environ, **environment},
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,  # closes when this process ends, however it does
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C goes to the commands, which pass it on
        )
    _started.append(process)
    os.environ[ADDRESS] = address


def run_in_copy(words: Sequence[str]) -> int | None:
    """Have a copy of the process that has the packages run this command.

    Args:
        words: sys.argv.

    Returns:
        The exit status; None where there is no such process, and the command is to be run here.
    """
    copy: list[int] = []  # its process id, once it runs
    early: list[int] = []  # signals from before that

    def pass_on(number: int, _: object) -> None:
        if copy:
            send_signal(copy[0], number)
        else:
            early.append(number)

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
        try:
            connection.connect(os.environ[ADDRESS])
            request = Request(program_of_this_process(), list(words), str(Path.cwd()), dict(os.environ))
            socket.send_fds(connection, [b"\n"], [0, 1, 2])
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("r") as answers:
                copy += [int(line) for line in [answers.readline()] if line]
                if copy:
                    for number in early:
                        send_signal(copy[0], number)
                    return int(answers.readline() or 1)
        except OSError:
            if copy:
                return 1  # it may still be at work
    for number, handler in before.items():
        signal.signal(number, handler)
    for number in early:
        signal.raise_signal(number)
    return None


def program_of_this_process() -> list[str]:
    """The Python and the code that a command would be run with here."""
    return [sys.executable, str(Path(__file__).resolve())]


def send_signal(pid: int, number: int) -> None:
    """Send a signal to a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
