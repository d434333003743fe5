"""Commands in processes of their own that can be killed, forked from one that has imported everything already."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PRELOAD = [
    "warm",
    "main",
    "labelbridge.lightning_app.cli.lightning_cli",
    "labelbridge.datamodules",
    "labelbridge.modules",
    "labelbridge.callbacks",
    "transformers.models.bert.modeling_bert",
]


def start(words: Sequence[object], folder: Path) -> BaseProcess:
    """Run `python main.py WORDS` in `folder`; what it prints goes to `folder/said.txt`."""
    # The server of Python 3.11 imports with no path but this: the code of this tree, not of one that is installed.
    os.environ["PYTHONPATH"] = f"{TESTS.parent}{os.pathsep}{TESTS}"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_run, args=([str(word) for word in words], str(folder)))
    process.start()
    return process


def run(words: Sequence[object], folder: Path) -> int:
    """Run a command to its end; the exit status."""
    process = start(words, folder)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def kill_after(process: BaseProcess, seconds: float) -> bool:
    """SIGKILL a process when its time is up; whether it was still at work."""
    process.join(seconds)
    alive = process.is_alive()
    if alive and process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive


def probe(callback: str, /, **settings: object) -> list[str]:
    """The words that put one of the callbacks of `probes` into a run."""
    return [
        f"--trainer.callbacks+=probes.{callback}",
        *(f"--trainer.callbacks.{key}={one}" for key, one in settings.items()),
    ]


def said(folder: Path) -> str:
    """What the commands in a folder have printed last."""
    return (folder / "said.txt").read_text()[-4000:]


def _run(words: list[str], folder: str) -> None:
    os.chdir(folder)
    output = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import torch

    torch.set_num_threads(1)  # the same plan of sums in every process
    from labelbridge.__main__ import main

    sys.argv = ["main.py", *words]
    began = time.perf_counter()
    code = main(words)
    print(f"[{code} after {time.perf_counter() - began:.1f} s]", flush=True)
    sys.stdout.flush()
    os._exit(code)
