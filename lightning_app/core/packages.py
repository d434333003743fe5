"""Packages that only some stages require."""

import importlib
from typing import Any

from .errors import InputError


def require(package: str, extra: str, needed_by: str, otherwise: str = "") -> Any:
    """Import a package that an extra of Labelbridge brings.

    Args:
        package: The name to import, such as `peft` or `nltk.cluster`.
        extra: The extra, such as `translation`.
        needed_by: What requires it: the beginning of the error line.
        otherwise: What to do instead of installing it, such as `set lemmatize to false`.

    Returns:
        The module.

    Raises:
        InputError: If it, or something that it imports, is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        missing = (error.name or package).partition(".")[0]
        alternative = f", or {otherwise}" if otherwise else ""
        raise InputError(
            f"{needed_by}: {missing} is not installed; pip install 'labelbridge[{extra}]'{alternative}"
        ) from None
