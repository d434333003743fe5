"""Anything that holds weights: batches to a loss, or to rows."""

from modules.classifier import ClassifierModule
from modules.embedder import EmbedderModule
from modules.generator import OpenAIGenerator, TransformersGenerator
from modules.student import StudentModule
from modules.teacher import TeacherModule

__all__ = [
    "ClassifierModule",
    "EmbedderModule",
    "OpenAIGenerator",
    "StudentModule",
    "TeacherModule",
    "TransformersGenerator",
]
