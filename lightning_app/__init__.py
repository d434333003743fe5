"""Contracts and pure functions: no weights, no Trainer hooks."""

# Imported as a top-level package, every class in here would exist twice, once under either name.
if not __name__.startswith("labelbridge."):
    raise ImportError(f"'{__name__}' is a part of Labelbridge; import it as 'labelbridge.{__name__}'")

__version__ = "0.1.0"
