"""Lists that clients send."""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

from pydantic import Field

T = TypeVar("T")

Many: TypeAlias = Annotated[list[T], Field(fail_fast=True)]
"""A list that is given up at the first item that is wrong: to say of a hundred thousand what is wrong with
each of them takes hundreds of bytes of memory for each byte of the body.
"""

Several: TypeAlias = Annotated[list[T], Field(fail_fast=True, max_length=32_768)]
"""Such a list of objects, each of which takes a thousand bytes however short it is written."""
