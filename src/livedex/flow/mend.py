"""What an audit asks for: some rows of a source read again, by whoever captures it.

Only between two batches and only by the holder of the source's lease, so that nothing newer is overwritten: a settled
look shows everything that was delivered before, hence everything that the log holds. The stream may then send again
what led to it, which ends where the look was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from livedex.clock import Clock
from livedex.digests import key_text
from livedex.errors import SourceError
from livedex.faults import Faults
from livedex.model import Change, Op
from livedex.ports import Auditable, Look, Source
from livedex.store.audit import Repair, Repairs
from livedex.store.documents import Log

LOOK_SECONDS = 1.0
"""How often capture looks whether it is asked for something."""
PATIENCE_SECONDS = 0.5
"""How long a repair may hold capture up, waiting for transactions of the source to end."""
KEYS_AT_ONCE = 500


class Mender:
    """Beside one worker that captures a partition."""

    def __init__(self, source: Source, log: Log, repairs: Repairs, clock: Clock, faults: Faults) -> None:
        self._source = source
        self._log = log
        self._repairs = repairs
        self._clock = clock
        self._faults = faults
        self._looked = -LOOK_SECONDS

    async def mend(self, epoch: int) -> None:
        """Do what is asked for, if it is time to look. An error of the source ends what was asked for, not capture."""
        if self._clock.monotonic() - self._looked < LOOK_SECONDS or not isinstance(self._source, Auditable):
            return
        while asked := await self._repairs.next(KEYS_AT_ONCE):
            try:
                async with self._source.look(patience_seconds=PATIENCE_SECONDS) as look:
                    if not look.settled:
                        break
                    changes = await self._read(look, asked)
            except SourceError as error:
                await self._repairs.give_up(asked, str(error))
                continue
            await self._repairs.doubt(asked)
            await self._faults.reach("mend.before_append")
            await self._log.append_snapshot(changes, epoch)
            await self._repairs.finish(asked)
        self._looked = self._clock.monotonic()

    async def _read(self, look: Look, asked: Sequence[Repair]) -> list[Change]:
        """The rows as they are now; those that are gone as deleted."""
        keys: dict[str, set[str]] = defaultdict(set)
        for repair in asked:
            keys[repair.place[0]].add(repair.key)
        changes: list[Change] = []
        for table, wanted in keys.items():
            rows = await look.rows(table, wanted) if table in self._repairs.source.mapping else []
            found = {key_text(table, row.key) for row in rows}
            gone = [repair.place for repair in asked if repair.key in wanted - found]
            changes += [*rows, *(Change(Op.DELETE, table, key) for table, key in gone)]
        return changes
