"""Data sets by name: `data:sst5/train` stands for the source that `configs/data/sst5.yaml` calls `train`."""

from typing import Any

import yaml

from ..core.errors import InputError, closest
from ..core.paths import PROJECT, find

DATA = "data:"


def named_source(path: str) -> dict[str, Any]:
    """The settings of a source that is given by name.

    Args:
        path: `data:FILE/PART`: a file of `configs/data`, and `train`, `dev` or the name of a target in it.

    Raises:
        InputError: If there is no such file or part; names the closest one.
    """
    name, _, part = path.removeprefix(DATA).rpartition("/")
    file = find(f"{name}.yaml", "configs/data") if name else None
    if file is None:
        known = sorted(file.stem for file in (PROJECT / "configs/data").glob("*.yaml"))
        raise InputError(f"{path}: no data set of this name in configs/data, {closest(name or part, known)}")
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))["data"]["init_args"]
    sources = {**{key: value for key, value in settings.items() if key != "targets"}, **settings.get("targets", {})}
    if part not in sources:
        raise InputError(f"{path}: not in {file.name}, {closest(part, sources)}")
    source: dict[str, Any] = sources[part]
    return source
