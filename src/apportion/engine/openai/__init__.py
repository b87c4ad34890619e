"""Requests and answers as the OpenAI API writes them."""

from apportion.engine.openai.answers import answer_body, error_body
from apportion.engine.openai.asks import ENDPOINTS, Ask, Endpoint, read_ask, read_prompts, read_served
from apportion.engine.openai.fields import FIELDS, Field
from apportion.engine.openai.limits import AskLimits
from apportion.engine.openai.tools import Tools
from apportion.engine.openai.turns import turn_of

__all__ = [
    "ENDPOINTS",
    "FIELDS",
    "Ask",
    "AskLimits",
    "Endpoint",
    "Field",
    "Tools",
    "answer_body",
    "error_body",
    "read_ask",
    "read_prompts",
    "read_served",
    "turn_of",
]
