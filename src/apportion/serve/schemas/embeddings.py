"""OpenAI's embeddings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from apportion.serve.schemas.base import Asked, Told, within
from apportion.serve.schemas.many import Many


class EmbeddingsRequest(Asked):
    """Texts to be told as vectors."""

    model: str | None = None
    input: str | Many[int] | Many[str] | Many[Many[int]] = Field(
        description="text, token ids, or a list of either"
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = within(1, about="the model's own, or refused")
    pooling: Literal["mean", "last"] | None = within(about="mean over a text's tokens, or its last token")
    user: str | None = None


class Embedding(Told):
    """A vector of length 1: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(Told):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Told):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage
