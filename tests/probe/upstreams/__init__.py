"""Scripted upstreams, one class for each kind.

Their behaviour follows the documentation and recorded answers of each upstream. Nothing here uses
the dialects of the package: the tests show whether the probe finds them. The error messages are the
upstreams' own.
"""

from __future__ import annotations

from .clouds import Fireworks, FireworksGptOss, FireworksQwen, OpenRouter
from .engines import LlamaCppServer, TransformersServe, Vllm032, written_calls
from .servers import LlamaCpp, LmStudio, Ollama, Vllm, VllmWithoutParallel
from .vendors import DashScope, DeepSeek, Gemini, MiniMax, Mistral, OpenAI

__all__ = [
    "DashScope",
    "DeepSeek",
    "Fireworks",
    "FireworksGptOss",
    "FireworksQwen",
    "Gemini",
    "LlamaCpp",
    "LlamaCppServer",
    "LmStudio",
    "MiniMax",
    "Mistral",
    "Ollama",
    "OpenAI",
    "OpenRouter",
    "TransformersServe",
    "Vllm",
    "Vllm032",
    "VllmWithoutParallel",
    "written_calls",
]
