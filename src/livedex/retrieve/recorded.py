"""Writing down what was retrieved, beside the searches: none of them waits for it, and none fails with it."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b

from livedex.clock import Clock
from livedex.errors import LivedexError, NotFresh, StoreError
from livedex.model import Query, Retrieval
from livedex.ports import Vectors
from livedex.retrieve import Retrieves
from livedex.store.answers import Count, Records, Told, ToldHit
from livedex.store.entries import SourceRow
from livedex.store.history import key_hashes

GATHER_SECONDS = 0.2
"""So long records are gathered before they are written; a process that is killed loses no more."""
CLOSE_SECONDS = 3.0
"""How long the last ones may take when the index is closed, after that how long a cancellation may."""
MOST_WAITING = 2000
MOST_HITS_WAITING = 20_000
"""What waits while the store is away: about 20 MB of text."""
MOST_WRITTEN = 200
"""So many go into one batch."""
LONGEST_PAUSE_SECONDS = 5.0
KNOWN_TEXTS = 20_000
SEEN_AGAIN_SECONDS = 1800.0
"""A text that is seen all the time is sent again this often, so that the store knows that it still is."""
OLDEST_SECONDS = 86_400.0
"""What has waited longer is taken to have waited so long: only yesterday has a table."""
DAYS_SECONDS = 3600.0
"""How often it is looked whether the days to come have their tables."""


@dataclass(frozen=True, slots=True)
class Note:
    """What waits to be written: a retrieval, or of one that was refused only that."""

    view: str
    at: float
    query: Query
    retrieval: Retrieval | None
    sources: Sequence[SourceRow]


@dataclass(frozen=True, slots=True)
class _Known:
    """A chunk that was seen: the hash of its text, those of the keys that its document may have, and when the text was
    last sent to the store."""

    text_hash: bytes
    keys: Sequence[bytes]
    sent_at: float


class Recorder:
    """Gathers notes of all views and writes them in batches, from the first note until it is closed.

    There is room for so many; what comes when it is full is counted as lost. What the store refuses is lost too; what
    it cannot take for now waits. `trouble` is why the last batch could not be written; None once one could.
    """

    def __init__(
        self,
        records: Records,
        hash_key: bytes,
        clock: Clock,
        *,
        enabled: bool = True,
        text: bool = True,
    ) -> None:
        self._records = records
        self._hash_key = hash_key
        self._clock = clock
        self._enabled = enabled
        self._text = text
        self._waiting: deque[Note] = deque()
        self._hits_waiting = 0
        self._lost: Counter[str] = Counter()
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._wake, self._closing = asyncio.Event(), asyncio.Event()
        self._days_made: float | None = None
        self.trouble: LivedexError | None = None

    @property
    def lost(self) -> int:
        """Of how many retrievals there will be no record, as far as that is not written down yet."""
        return self._lost.total()

    def note(self, view: str, query: Query, retrieval: Retrieval | None, sources: Sequence[SourceRow]) -> None:
        """Take down a retrieval, or a refusal when there is none. Waits for nothing and raises nothing."""
        hits = 0 if retrieval is None else len(retrieval.hits)
        if len(self._waiting) >= MOST_WAITING or self._hits_waiting + hits > MOST_HITS_WAITING:
            self._lost[view] += 1
            return
        self._waiting.append(Note(view, self._clock.monotonic(), query, retrieval, sources))
        self._hits_waiting += hits
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._write_on())

    async def flush(self) -> None:
        """Write what was noted so far. Raises StoreError; what was noted waits on then."""
        async with self._writing:
            while self._waiting or self._lost:
                await self._write()

    async def close(self) -> None:
        """Write what waits, if the store takes it in time, and end."""
        self._closing.set()
        self._wake.set()
        if self._task is None:
            return
        _, running = await asyncio.wait({self._task}, timeout=CLOSE_SECONDS)
        while running:
            self._task.cancel()
            _, running = await asyncio.wait(running, timeout=CLOSE_SECONDS)

    async def _write_on(self) -> None:
        pause = GATHER_SECONDS
        while not self._closing.is_set() or self._waiting:
            await self._wake.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._closing.wait()
            self._wake.clear()
            try:
                await self.flush()
                pause = GATHER_SECONDS
            except LivedexError as error:
                self.trouble = error
                if self._closing.is_set():
                    return
                self._wake.set()
                pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)

    async def _write(self) -> None:
        """One batch, from the front of what waits."""
        batch, lost, now = list(self._waiting)[:MOST_WRITTEN], Counter(self._lost), self._clock.monotonic()
        try:
            told = [self._told(note, note.retrieval, now) for note in batch if note.retrieval and self._enabled]
            counts = [_count(note, min(OLDEST_SECONDS, now - note.at)) for note in batch]
            counts += [Count(view, 0.0, retrievals=0, lost=number) for view, number in lost.items()]
            if told and (self._days_made is None or now - self._days_made > DAYS_SECONDS):
                await self._records.make_days()
                self._days_made = now
            await self._records.write(told, counts, lambda: self._clock.monotonic() - now)
        except LivedexError:
            raise
        except Exception as error:
            # The store can be asked, and does not take this: neither would it the next time. What it says may quote.
            self._lost.update(note.view for note in batch)
            self._leave(batch)
            raise StoreError(f"Retrievals could not be recorded: {type(error).__name__}.") from error
        self.trouble = None
        self._lost -= lost
        self._leave(batch)
        self._remember(told, now)

    def _leave(self, batch: Sequence[Note]) -> None:
        for note in batch:
            self._waiting.popleft()
            self._hits_waiting -= 0 if note.retrieval is None else len(note.retrieval.hits)

    def _told(self, note: Note, retrieval: Retrieval, now: float) -> Told:
        sources = {row.name: row for row in note.sources}
        hits = []
        for hit in retrieval.hits:
            known = self._known.get((hit.chunk_id, hit.document_version))
            sent = known is not None and now - known.sent_at < SEEN_AGAIN_SECONDS
            if known is None:
                known = _Known(self._hash(hit.text), key_hashes(hit.document_id, sources[hit.source]), now)
            source_id = sources[hit.source].source_id
            hits.append(
                ToldHit(hit, source_id, known.keys, known.text_hash, hit.text if self._text and not sent else None)
            )
        dropped = () if retrieval.verdict is None else retrieval.verdict.dropped
        withheld = [
            ToldHit(each, sources[each.source].source_id, key_hashes(each.document_id, sources[each.source]))
            for each in dropped
        ]
        age = min(OLDEST_SECONDS, now - note.at)
        return Told(note.query, retrieval, age, self._hash(note.query.text), hits, withheld, self._text)

    def _remember(self, told: Sequence[Told], now: float) -> None:
        for hit in (hit for each in told for hit in each.hits if hit.text is not None or not self._text):
            place = hit.hit.chunk_id, hit.hit.document_version
            self._known[place] = _Known(hit.text_hash or b"", hit.keys, now)
            self._known.move_to_end(place)
        while len(self._known) > KNOWN_TEXTS:
            self._known.popitem(last=False)

    def _hash(self, text: str) -> bytes:
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._hash_key).digest()


def _count(note: Note, age_seconds: float) -> Count:
    if note.retrieval is None:
        return Count(note.view, age_seconds, retrievals=0, refused=1)
    return replace(Count.of(note.retrieval, age_seconds), view=note.view)


class Recorded:
    """Answers as the retriever within does, and has it written down. Outermost, so that what is written is what was
    answered."""

    def __init__(self, within: Retrieves, view: str, sources: Sequence[SourceRow], recorder: Recorder) -> None:
        self._within = within
        self._view = view
        self._sources = tuple(sources)
        self._recorder = recorder

    @property
    def model(self) -> str:
        """The name of the model whose vectors the view holds."""
        return self._within.model

    async def embed(self, text: str) -> Vectors:
        """The query vector of a text. Shape (dimensions,)."""
        return await self._within.embed(text)

    async def retrieve(self, query: Query) -> Retrieval:
        """Raises what the retriever within raises; of that, only NotFresh is counted: the others are no retrievals."""
        try:
            retrieval = await self._within.retrieve(query)
        except NotFresh:
            self._recorder.note(self._view, query, None, self._sources)
            raise
        self._recorder.note(self._view, query, retrieval, self._sources)
        return retrieval
