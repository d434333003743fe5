"""Every line that says what to type says it as this process was called."""

import logging
from pathlib import Path

import pytest

from labelbridge.lightning_app.cli.commands import _as_called
from labelbridge.lightning_app.core import program
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.runs import command_line

CALLS = {
    "main.py": "python main.py",
    "/home/me/labelbridge-checkout/main.py": "python main.py",
    "/usr/bin/labelbridge": "labelbridge",
    r"labelbridge.exe": "labelbridge",
    "/lib/site-packages/labelbridge/__main__.py": "python -m labelbridge",
}


@pytest.mark.parametrize(("script", "name"), CALLS.items())
def test_messages_are_in_the_name_of_the_call(script: str, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", [script, "select", "--out", "my runs"])
    monkeypatch.setattr("labelbridge.lightning_app.core.runs.typed_words", ["select", "--out", "my runs"])
    assert program.program() == name
    assert command_line() == f"{name} select --out 'my runs'"
    assert str(InputError('rebuild it with "python main.py clean --config clean.yaml"')) == (
        f'rebuild it with "{name} clean --config clean.yaml"'
    )
    record = logging.LogRecord("x", logging.INFO, "x", 1, "next: %s", ("python main.py test --config test.yaml",), None)
    assert _as_called(record)
    assert record.getMessage() == f"next: {name} test --config test.yaml"


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["train.py", "--seed", "1"], "python train.py --seed 1"),
        (["/lib/site-packages/ipykernel_launcher.py", "-f", "kernel.json"], ""),
        ([""], ""),
        (["-c"], ""),
    ],
)
def test_a_call_from_python_is_recorded_as_its_script(argv: list[str], command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", argv)
    monkeypatch.setattr("labelbridge.lightning_app.core.runs.typed_words", [])
    assert command_line() == command


def test_a_percent_sign_in_a_line_stays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["labelbridge"])
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%d %% kept; python main.py peek", (7,), None)
    _as_called(record)
    assert record.getMessage() == "7 % kept; labelbridge peek"


def test_a_script_of_ones_own_gets_what_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("sys.argv", ["main.py"])  # a foreign project may have one too
    monkeypatch.setattr(program, "PROJECT", tmp_path)
    assert program.program() == "labelbridge"
