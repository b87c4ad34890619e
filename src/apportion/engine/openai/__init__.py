"""Requests and answers as the OpenAI API writes them."""

from apportion.engine.openai.answers import answer_body, error_body
from apportion.engine.openai.asks import ENDPOINTS, Ask, Endpoint, read_ask, read_served

__all__ = ["ENDPOINTS", "Ask", "Endpoint", "answer_body", "error_body", "read_ask", "read_served"]
