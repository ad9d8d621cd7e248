"""The section `embedders`: what turns text into vectors."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from livedex.config.values import Count, Duration, Location, Section, Text

MOST_DIMENSIONS = 4000
"""pgvector's HNSW index takes no longer halfvec."""


def _base_url(url: str) -> str:
    if not re.match(r"https?://[^/?#\s]+", url):
        raise PydanticCustomError("base_url", "must be a URL such as https://api.openai.com/v1")
    if "@" in url.split("/")[2]:
        raise PydanticCustomError("base_url", "must not hold a user or password; put the key under api_key")
    return url.rstrip("/")


Dimensions = Annotated[int, Field(ge=1, le=MOST_DIMENSIONS)]


class LocalEmbedder(Section):
    """A model that runs in this process on ONNX Runtime. Needs the extra `local`."""

    kind: Literal["local"]
    """Where the model runs."""
    model: Text = "all-MiniLM-L6-v2"
    """The model's name."""
    precision: Literal["fp32", "int8"] = "fp32"
    """`int8` is about 1.7 times as fast and loses a little quality. Part of the model's identity."""
    path: Location | None = None
    """The directory that holds the model's files. Without it they are fetched into the cache directory."""
    threads: Count | None = None
    """How many threads compute. Without it ONNX Runtime decides."""


class ApiEmbedder(Section):
    """A model behind an HTTP endpoint that speaks OpenAI's embeddings API."""

    kind: Literal["api"]
    """Where the model runs."""
    base_url: Annotated[str, AfterValidator(_base_url)]
    """The endpoint up to, not including, `/embeddings`. Moving the same model to another URL rebuilds nothing."""
    model: Text
    """The model's name at the endpoint."""
    dimensions: Dimensions
    """The length of the vectors. Others are refused."""
    send_dimensions: bool = False
    """Whether to ask the endpoint for vectors of that length. Only for models that can shorten their vectors."""
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = None
    """The key that is sent as a bearer token. Take it from the environment."""
    batch_size: Annotated[int, Field(ge=1, le=2048)] = 128
    """Most texts in one request."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    """Most requests at the same time, for documents and for queries apart."""
    timeout: Duration = timedelta(seconds=30)
    """How long a request may take."""
    requests_per_minute: Count | None = None
    """The provider's limit on requests; documents keep to it."""
    tokens_per_minute: Count | None = None
    """The provider's limit on tokens; documents keep to it."""
    query_prefix: str = ""
    """What the model wants in front of a query. Part of the model's identity."""
    document_prefix: str = ""
    """What the model wants in front of a document. Part of the model's identity."""


class HashingEmbedder(Section):
    """No model: words hashed into a vector, for tests and first steps. It knows no synonyms."""

    kind: Literal["hashing"]
    """Where the model runs."""
    dimensions: Dimensions = 384
    """The length of the vectors."""


Embedder = Annotated[LocalEmbedder | ApiEmbedder | HashingEmbedder, Field(discriminator="kind")]
