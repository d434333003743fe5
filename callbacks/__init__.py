"""Trainer hooks to side effects."""

# Imported as a top-level package, every class in here would exist twice, once under either name.
if not __name__.startswith("labelbridge."):
    raise ImportError(f"'{__name__}' is a part of Labelbridge; import it as 'labelbridge.{__name__}'")

from .averaging import AverageWeights
from .boards import ShowOnBoards
from .cartography import CartographyCallback
from .export import ExportBest
from .finite import StopAtNonFinite
from .progress import RunProgressBar
from .resume import Resume
from .rows import RowWriter
from .throughput import Throughput

__all__ = [
    "AverageWeights",
    "CartographyCallback",
    "ExportBest",
    "Resume",
    "RowWriter",
    "RunProgressBar",
    "ShowOnBoards",
    "StopAtNonFinite",
    "Throughput",
]
