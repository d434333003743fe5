"""Anything that holds weights: batches to a loss, or to rows."""

from modules.classifier import ClassifierModule
from modules.ctranslate2_translator import CTranslate2Translator
from modules.embedder import EmbedderModule
from modules.indictrans2_translator import IndicTrans2Translator
from modules.lexicon_translator import LexiconTranslator
from modules.openai_generator import OpenAIGenerator
from modules.seq2seq import Seq2SeqModule
from modules.student import StudentModule
from modules.teacher import TeacherModule
from modules.transformers_generator import TransformersGenerator
from modules.transformers_translator import TransformersTranslator

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
