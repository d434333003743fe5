"""Anything that holds weights: batches to a loss, or to rows."""

from modules.classifier import ClassifierModule
from modules.embedder import EmbedderModule
from modules.openai_generator import OpenAIGenerator
from modules.student import StudentModule
from modules.teacher import TeacherModule
from modules.transformers_generator import TransformersGenerator

__all__ = [
    "ClassifierModule",
    "EmbedderModule",
    "OpenAIGenerator",
    "StudentModule",
    "TeacherModule",
    "TransformersGenerator",
]
