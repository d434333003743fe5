"""The sources that a run read, as its recorded configuration has them: with columns, labels and draws."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.runs import CONFIG
from ..core.yaml_files import YamlError, load_yaml
from .readers import Source


def configured_sources(run: Path, setting: str) -> dict[str, Source]:
    """The sources of one setting of a run's DataModule, by their names or numbers.

    Args:
        run: The folder of a Trainer run.
        setting: `train`, `pool`, `targets` and so on.

    Returns:
        Empty where the run has no configuration, as one of `select`, or the setting is not given.
    """
    try:
        config: Any = load_yaml((run / CONFIG).read_text(encoding="utf-8"))
        given = config["data"]["init_args"][setting]
    except (OSError, ValueError, YamlError, KeyError, TypeError):
        return {}
    if isinstance(given, dict) and "path" not in given:
        named = {str(name): one for name, one in given.items()}
    else:
        named = {str(number): one for number, one in enumerate(given if isinstance(given, list) else [given])}
    known = {one.name for one in fields(Source)}
    found = {}
    for name, one in named.items():
        settings = {"path": one} if isinstance(one, str) else one
        if isinstance(settings, dict) and isinstance(settings.get("path"), str):
            try:
                found[name] = Source(**{key: value for key, value in settings.items() if key in known})
            except (InputError, TypeError):
                return {}
    return found
