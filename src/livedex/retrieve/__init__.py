"""Query → hits. `Retriever` finds; what is optional wraps it: each wrapper is a `Retrieves` around another one."""

from __future__ import annotations

from typing import Protocol

from livedex.model import Query, Retrieval
from livedex.ports import Vectors
from livedex.retrieve.retriever import MOST_HITS, Retriever

__all__ = ["MOST_HITS", "Retriever", "Retrieves"]


class Retrieves(Protocol):
    """Answers queries over one view."""

    @property
    def model(self) -> str:
        """The name of the model whose vectors the view holds."""
        ...

    async def retrieve(self, query: Query) -> Retrieval:
        """The chunks that answer a query best. Raises QueryError for a query that cannot be answered, ModelMismatch."""
        ...

    async def embed(self, text: str) -> Vectors:
        """The query vector of a text, of the view's model or not at all. Shape (dimensions,)."""
        ...
