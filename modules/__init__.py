"""Anything that holds weights: batches to a loss, or to rows."""

# Imported as a top-level package, every class in here would exist twice, once under either name.
if not __name__.startswith("labelbridge."):
    raise ImportError(f"'{__name__}' is a part of Labelbridge; import it as 'labelbridge.{__name__}'")

from .classifier import ClassifierModule
from .ctranslate2_translator import CTranslate2Translator
from .embedder import EmbedderModule
from .indictrans2_translator import IndicTrans2Translator
from .lexicon_translator import LexiconTranslator
from .openai_generator import OpenAIGenerator
from .seq2seq import Seq2SeqModule
from .student import StudentModule
from .teacher import TeacherModule
from .transformers_generator import TransformersGenerator
from .transformers_translator import TransformersTranslator

__all__ = [
    "CTranslate2Translator",
    "ClassifierModule",
    "EmbedderModule",
    "IndicTrans2Translator",
    "LexiconTranslator",
    "OpenAIGenerator",
    "Seq2SeqModule",
    "StudentModule",
    "TeacherModule",
    "TransformersGenerator",
    "TransformersTranslator",
]
