"""Words → terms, as a text search dictionary of PostgreSQL has them.

A dictionary gives a word its stem, or says that it is a stop word. It is asked once for each word and its answer kept, so
analysing a text costs the server nothing once its words are known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from livedex.rules.lexical import forms
from livedex.store.statements import load

SQL = load("lexicon")
MOST_WORDS = 100_000
"""About 30 MB. When there are more, all are forgotten, and those in use are asked for again."""
MOST_ASKED = 10_000


class Term(NamedTuple):
    """`number` stands for the lexeme, which is in UTF-8, in weights and statistics: a hash with the store's own seed,
    from 1 on."""

    number: int
    lexeme: bytes


class Lexicon:
    """The words of one dictionary that have been met so far."""

    def __init__(self, dictionary: str) -> None:
        self.dictionary = dictionary
        self._terms: dict[str, tuple[Term, ...]] = {}

    async def learn(
        self, connection: AsyncConnection[Any], texts: Iterable[Iterable[str]]
    ) -> Mapping[str, tuple[Term, ...]]:
        """The terms of all words of some texts, and of others. A stop word has none, an identifier several.

        At most one journey, and that only for words which nobody asked for before.
        """
        known = self._terms
        unknown = {word for text in texts for word in text if word not in known}
        if unknown:
            # Others may have emptied the lexicon by the time this is done; what we hold is whole.
            known.update(await self._ask(connection, unknown))
            if len(known) > MOST_WORDS and self._terms is known:
                self._terms = {}
        return known

    async def _ask(self, connection: AsyncConnection[Any], unknown: Collection[str]) -> Mapping[str, tuple[Term, ...]]:
        wanted = {word: forms(word) for word in unknown}
        asked = list({form for several in wanted.values() for form in several})
        terms: dict[str, tuple[Term, ...]] = {}
        async with connection.cursor(row_factory=tuple_row) as cursor:
            for start in range(0, len(asked), MOST_ASKED):
                values = {"dictionary": self.dictionary, "forms": asked[start : start + MOST_ASKED]}
                await cursor.execute(SQL["lexemes"], values)
                for form, number, lexeme in await cursor.fetchall():
                    terms[form] = (*terms.get(form, ()), Term(number, lexeme.encode()))
        return {word: tuple(t for form in several for t in terms.get(form, ())) for word, several in wanted.items()}
