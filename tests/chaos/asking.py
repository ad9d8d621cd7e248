"""Those who search while all this happens, and judge every answer."""

from __future__ import annotations

import asyncio
import importlib.util
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
from tests.chaos.answers import NOTHING, Answer, Wanted, too_fresh_by, wrong_with
from tests.chaos.history import History, Revision
from tests.chaos.load import TENANTS, WORDS
from tests.chaos.processes import Searcher
from tests.chaos.servers import Clock, Server

from livedex.adapters.sources.files.positions import Position as FilePosition
from livedex.adapters.sources.postgres.lsn import Position, format_lsn

if TYPE_CHECKING:
    from tests.chaos.run import Report

PAUSE_SECONDS = 0.05
BUILD_SECONDS = 120.0
FORESEEN = frozenset(
    {
        "StoreUnavailable",
        "StoreFull",
        "EmbedderUnavailable",
        "EmbedderMisconfigured",
        "InputRejected",
        "NotFresh",
        "TooSlow",
    }
)
"""Errors with which a search may be refused while something is broken."""
RECENT = 400
CLOCK_SECONDS = 15.0
"""What was captured within this time after the source's clock was set may be wrong about how fresh it is."""
CAN_WAIT_FOR_WRITES = importlib.util.find_spec("livedex.retrieve.fresh") is not None


class Asking:
    """Asks a searcher, judges what it says, and learns from it when a fault has been got over."""

    def __init__(
        self,
        searcher: Searcher,
        kb: History,
        notes: History,
        store: Server,
        clock: Clock,
        report: Report,
        complain: Callable[[str], None],
        seed: int,
    ) -> None:
        self._searcher = searcher
        self._kb, self._notes = kb, notes
        self._store = store
        self._clock = clock
        self._report = report
        self._complain = complain
        self._seed = seed
        self._watermark = NOTHING
        self._source = ""
        self._unrecovered: deque[tuple[str, int, float]] = deque()

    async def run(self, number: int) -> None:
        dice = random.Random(self._seed * 1000 + 500 + number)
        while True:
            if self._store.is_up and self._searcher.is_running:
                await self.once(dice)
            await asyncio.sleep(PAUSE_SECONDS)

    async def until_built(self, environ: Mapping[str, str]) -> None:
        """Until the first load of every view has begun, so that they can be searched."""
        began = time.monotonic()
        while time.monotonic() - began < BUILD_SECONDS:
            try:
                built = await self._store.ask("SELECT count(*) FROM livedex.views WHERE active_generation IS NOT NULL")
            except psycopg.Error:
                built = [(0,)]
            if built == [(2,)]:
                return
            await asyncio.sleep(0.2)
        raise TimeoutError("the views were not built")

    async def until_searched(self) -> None:
        """Until a searcher that was just started answers."""
        started = {"view": "notebook", "text": "start", "mode": "lexical"}
        while await self._searcher.ask(started) is None:  # noqa: ASYNC110  # a process sets no event of ours
            await asyncio.sleep(0.1)

    def expect_recovery(self, kind: str) -> None:
        """A fault is over. It is got over when all that was committed by now is searchable."""
        last = max((commit for commit in self._committed()), default=NOTHING)
        self._unrecovered.append((kind, last, time.monotonic()))

    def _committed(self) -> Iterator[int]:
        for number in range(self._kb.last, max(0, self._kb.last - RECENT), -1):
            revision = self._kb.numbered.get(number)
            if revision is not None and revision.born.after is not None:
                yield revision.born.after

    async def once(self, dice: random.Random, *, is_quiet: bool = False) -> None:
        """One question and the judgement of its answer. When all `is_quiet` it must be answered."""
        view = "notebook" if dice.random() < 0.2 else "handbook"
        history = self._notes if view == "notebook" else self._kb
        tenant = dice.choice(TENANTS)
        wanted = self._wanted(dice, history, tenant)
        question = _question(dice, view, tenant, wanted)
        if wanted is not None and wanted.at_least is not None:
            question["at_least"] = [f"kb:{self._source}:{format_lsn(wanted.at_least)}"]
        reply = await self._searcher.ask(question)
        if reply is None:
            self._report.refusals["the searcher was killed"] += 1
        elif "unexpected" in reply:
            self._complain(f"a search failed in a way that nobody foresaw: {reply['unexpected'][-1500:]}")
        elif "error" in reply:
            self._report.refusals[reply["error"]] += 1
            if is_quiet or reply["error"] not in FORESEEN:
                self._complain(f"a search was refused: {reply['error']}: {reply['message']} ({question})")
        else:
            self._judge(question, reply, wanted, history)

    def _wanted(self, dice: random.Random, history: History, tenant: str | None) -> Wanted | None:
        """A recent revision that this tenant may see, by a word of it that nothing else has."""
        if dice.random() < 0.3 or not history.last:
            return None
        for _ in range(5):
            number = max(1, history.last - int(dice.expovariate(1 / 40)))
            revision = history.numbered.get(number)
            if revision is not None and revision.tenant in (None, tenant):
                words = [word for word in revision.content.split() if word.startswith("w") and "x" in word]
                if words:
                    own = self._can_ask_for(revision, history) and dice.random() < 0.4
                    return Wanted(revision, dice.choice(words), revision.born.after if own else None)
        return None

    def _can_ask_for(self, revision: Revision, history: History) -> bool:
        is_known = bool(self._source) and revision.born.after is not None
        return CAN_WAIT_FOR_WRITES and history is self._kb and is_known

    def _judge(
        self, question: Mapping[str, Any], reply: Mapping[str, Any], wanted: Wanted | None, history: History
    ) -> None:
        retrieval = reply["retrieval"]
        is_kb = history is self._kb
        (mark,) = retrieval["watermark"]
        watermark = self._mark(mark["position"], is_kb=is_kb)
        captured = self._mark(reply["before"]["positions"].get("kb" if is_kb else "notes"), is_kb=is_kb)
        if not self._store.was_up(reply["asked_at"], reply["answered_at"]):
            captured = watermark  # what the log held may have been lost in between
        found_by_words = question["mode"] == "lexical"
        answer = Answer(
            retrieval["hits"],
            watermark,
            max(watermark, captured),
            question.get("tenant"),
            frozenset(reply["set_aside"]),
            wanted if found_by_words or (wanted is not None and wanted.at_least is not None) else None,
            is_kb,
            self._current_at(retrieval, watermark, history),
        )
        self._report.answers["answers"] += 1
        self._report.answers["hits"] += len(answer.hits)
        if answer.wanted is not None:
            self._report.answers["for a word of one's own"] += 1
            self._report.answers["with a token"] += answer.wanted.at_least is not None
        for wrong in wrong_with(answer, history):
            self._complain(f"{wrong} (asked {dict(question)}, watermark {mark['position']})")
        if is_kb:
            self._recovered(watermark)

    def _current_at(self, retrieval: Mapping[str, Any], watermark: int, history: History) -> float | None:
        """As of when the answer says that it is current. What was captured while the source's clock jumped cannot say
        that exactly: then it is written down how wrong it is, and not judged."""
        said = retrieval["data_timestamp"]
        if said is None:
            return None
        current_at = datetime.fromisoformat(said).timestamp()
        if history is self._kb and self._clock.jumped_before(current_at, CLOCK_SECONDS):
            by = too_fresh_by(current_at, watermark, history)
            self._report.too_fresh_seconds = max(self._report.too_fresh_seconds, by)
            return None
        return current_at

    def _mark(self, position: str | None, *, is_kb: bool) -> int:
        if position is None:
            return NOTHING
        if not is_kb:
            return FilePosition.parse(position).nanoseconds
        parsed = Position.parse(position)
        self._source = f"{parsed.system}:{parsed.timeline}"
        return parsed.lsn

    def _recovered(self, watermark: int) -> None:
        waiting = self._unrecovered
        while waiting and waiting[0][1] <= watermark:
            kind, _, since = waiting.popleft()
            self._report.recovery.setdefault(kind, []).append(time.monotonic() - since)


def _question(dice: random.Random, view: str, tenant: str | None, wanted: Wanted | None) -> dict[str, Any]:
    mode = dice.choice(("hybrid", "hybrid", "dense", "lexical", "lexical"))
    text = f"{dice.choice(WORDS)}{dice.randrange(40)} {dice.choice(WORDS)}{dice.randrange(40)}"
    if wanted is not None:
        text = wanted.word if mode == "lexical" or wanted.at_least is not None else f"{wanted.word} {text}"
    if wanted is not None and wanted.at_least is not None:
        mode = "lexical"
    question: dict[str, Any] = {"view": view, "text": text, "mode": mode, "top_k": dice.choice((3, 10, 30))}
    if tenant is not None:
        question["tenant"] = tenant
    if dice.random() < 0.1:
        question["exact"] = True
    return question
