"""Labelled text in one language and an LLM in, a classifier for a language without labels out.

The folders in here are those beside it in a checkout: `labelbridge.modules` is `modules/`, and so on. Import them under
these names only, so that each class exists once. Importing `labelbridge` itself loads nothing heavy.
"""

from .lightning_app import __version__

__all__ = ["__version__"]
