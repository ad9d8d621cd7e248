"""Words → terms, as a text search dictionary of PostgreSQL has them.

A dictionary gives a word its stem, or says that it is a stop word. It is asked once for each word and its answer kept,
so analysing a text costs the server nothing once its words are known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from livedex.errors import StoreUnsupported
from livedex.rules.lexical import forms
from livedex.store.statements import load

SQL = load("lexicon")
MOST_WORDS = 100_000
"""About 30 MB. When there are more, all are forgotten, and those in use are asked for again."""
MOST_ASKED = 10_000


class Known(NamedTuple):
    """`numbers` has the terms of each word: none of a stop word, several of an identifier. A term's number stands for
    its lexeme in weights and statistics: a hash with the store's own seed, from 1 on. `lexemes` has these, in UTF-8."""

    numbers: dict[str, tuple[int, ...]]
    lexemes: dict[int, bytes]


class Lexicon:
    """The words of one dictionary that have been met so far."""

    def __init__(self, dictionary: str) -> None:
        self.dictionary = dictionary
        self._known = Known({}, {})

    def forget(self) -> None:
        """Know nothing any more; whoever holds what was known keeps it until done."""
        self._known = Known({}, {})

    def recall(self, words: Sequence[str]) -> Known | None:
        """What is known, if that covers these words."""
        known = self._known
        return known if all(word in known.numbers for word in words) else None

    async def learn(self, connection: AsyncConnection[Any], texts: Iterable[Sequence[str]]) -> Known:
        """What is known of the words of some texts, and of others.

        At most one journey, and that only for words which nobody asked for before.
        """
        known = self._known
        unknown = set(chain.from_iterable(texts)).difference(known.numbers)
        if unknown:
            # Others may have emptied the lexicon by the time this is done; what we hold is whole.
            await self._ask(connection, unknown, known)
            if len(known.numbers) > MOST_WORDS and self._known is known:
                self._known = Known({}, {})
        return known

    async def _ask(self, connection: AsyncConnection[Any], unknown: Collection[str], known: Known) -> None:
        wanted = {word: forms(word) for word in unknown}
        asked = list({form for several in wanted.values() for form in several})
        numbers: dict[str, tuple[int, ...]] = {}
        async with connection.cursor(row_factory=tuple_row) as cursor:
            for start in range(0, len(asked), MOST_ASKED):
                values = {"dictionary": self.dictionary, "forms": asked[start : start + MOST_ASKED]}
                try:
                    await cursor.execute(SQL["lexemes"], values)
                except psycopg.errors.UndefinedObject as error:
                    raise StoreUnsupported(
                        f"The store's PostgreSQL has no text search dictionary {self.dictionary}. Set another "
                        "`language` for the view, or use a server that has it."
                    ) from error
                for form, number, lexeme in await cursor.fetchall():
                    numbers[form] = (*numbers.get(form, ()), number)
                    known.lexemes[number] = lexeme.encode()
        for word, several in wanted.items():
            known.numbers[word] = tuple(number for form in several for number in numbers.get(form, ()))
