"""Chat templates: a request rendered by one, and whether one can be used at all, found out before any row is read."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..core.errors import InputError, shorten

# What a template is tried on, and what it may take for that.
_SYSTEM, _USER = "Follow these rules.", "Write one sentence about a door."
_SECONDS, _BYTES, _CHARACTERS = 5, 2**30, 50_000
_TOO_LARGE = 3
# In a process of its own: a template may loop without end, or ask for all memory there is. Other errors are told by the
# transformers library, whose environment knows more filters than this one.
_TRIAL = f"""
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({_BYTES}, {_BYTES}))
    resource.setrlimit(resource.RLIMIT_CPU, ({_SECONDS}, {_SECONDS}))
except (ImportError, ValueError):
    pass
from jinja2.sandbox import ImmutableSandboxedEnvironment
given = json.load(sys.stdin)
environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
)
try:
    length = len(environment.from_string(given.pop("template")).render(**given, add_generation_prompt=True))
except MemoryError:
    sys.exit({_TOO_LARGE})
except Exception:
    length = 0
sys.exit({_TOO_LARGE} if length > {_CHARACTERS} else 0)
"""


def render_chat(tokenizer: Any, system: str, user: str) -> str:
    """A request as the model's chat template writes it; where that knows no system role, the rules come first.

    Args:
        tokenizer: A tokenizer with a chat template.
        system: The rules; may be empty.
        user: The request.
    """
    from jinja2 import TemplateError

    def render(*messages: tuple[str, str]) -> str:
        text: str = tokenizer.apply_chat_template(_chat(*messages), tokenize=False, add_generation_prompt=True)
        return text

    if not system:
        return render(("user", user))
    try:
        text = render(("system", system), ("user", user))
    except TemplateError:
        text = ""
    # Some templates refuse a system role, others leave it out without a word.
    return text if system in text else render(("user", f"{system}\n\n{user}"))


def check_chat_template(tokenizer: Any, name: str) -> None:
    """Refuse a chat template that does not write a request, or takes more time or memory for it than it may.

    Raises:
        InputError: Says what the template does.
    """
    with template_errors(name):
        template = tokenizer.get_chat_template()
        if not isinstance(template, str):
            raise TypeError(f"it is {shorten(template)}, expected a text")
        _try(template, tokenizer.special_tokens_map)
        text = render_chat(tokenizer, _SYSTEM, _USER)
        if _USER.casefold() not in text.casefold():
            raise ValueError("it leaves out what the user says")


@contextmanager
def template_errors(name: str) -> Iterator[None]:
    """Have whatever a chat template raises told in one line.

    Raises:
        InputError: If anything is raised inside.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a template may fail in any way
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"model {name}: its chat template fails ({shorten(said, 160)[1:-1]}); fix chat_template.jinja or "
            "chat_template in its tokenizer_config.json, or use --model.prompt_format completion"
        ) from None


def _chat(*messages: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in messages]


def _try(template: str, special: dict[str, Any]) -> None:
    """Render a template in a process that may not take more than its time and memory.

    Raises:
        TimeoutError: If it takes more time.
        MemoryError: If it takes more memory, or writes more text.
    """
    given = {"template": template, "messages": _chat(("user", _USER)), **special}
    try:
        trial = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-I", "-c", _TRIAL], input=json.dumps(given), text=True, timeout=4 * _SECONDS,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"it takes more than {_SECONDS} s for one short request") from None
    if trial.returncode < 0:  # killed at its limit
        raise TimeoutError(f"it takes more than {_SECONDS} s for one short request")
    if trial.returncode == _TOO_LARGE:
        raise MemoryError(f"it writes more than {_CHARACTERS} characters for one short request")
