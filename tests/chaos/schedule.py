"""What is done to whom and when: drawn from a seed before anything runs, so that a run can be repeated."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

POINTS = (
    "capture.received",
    "capture.before_commit",
    "capture.after_commit",
    "capture.before_acknowledge",
    "materialize.read",
    "materialize.embedded",
    "materialize.before_commit",
    "materialize.after_commit",
    "stream.received",
)
WEIGHTS = {
    "kill worker": 13,
    "kill worker at a point": 12,
    "end worker": 7,
    "freeze worker": 4,
    "freeze worker at a point": 4,
    "kill searcher": 2,
    "cut walsender": 7,
    "cut a connection to the store": 12,
    "cut all connections to the store": 3,
    "cut a connection to the source": 3,
    "embedder fails": 4,
    "embedder throttles": 4,
    "embedder hangs": 3,
    "embedder changes dimensions": 2,
    "embedder returns NaN": 2,
    "embedder returns too few": 3,
    "embedder returns garbage": 3,
    "embedder hangs up": 3,
    "source restarts": 1.5,
    "source crashes": 1.5,
    "source is killed": 1.5,
    "store restarts": 1.5,
    "store crashes": 1.5,
    "store is killed": 1.5,
    "store's disk is full": 1,
    "source's clock is wrong": 3,
    "resync": 1,
}
"""How often each kind comes, relative to the others. What takes a server away costs seconds of everybody's time."""
MEAN_SECONDS = {
    "freeze": 7.0,
    "embedder": 1.2,
    "source": 0.3,
    "store": 0.3,
    "store's disk is full": 3.0,
    "source's clock is wrong": 4.0,
}


@dataclass(frozen=True, slots=True)
class Planned:
    """`after_seconds` after the one before; `chance` in [0, 1) picks the target among those that there are then;
    `seconds` is how long it lasts, where it lasts; `point` is where it strikes, `amount` how far it goes."""

    number: int
    kind: str
    after_seconds: float
    chance: float
    seconds: float = 0.0
    point: str = ""
    amount: float = 0.0


def draw(seed: int, count: int, per_second: float, without: Collection[str] = ()) -> list[Planned]:
    """A schedule of so many faults. `without`: kinds that cannot be done here."""
    dice = random.Random(seed)
    kinds = [kind for kind in WEIGHTS if kind not in without]
    weights = [WEIGHTS[kind] for kind in kinds]
    return [_one(dice, number, kinds, weights, per_second) for number in range(count)]


def _one(
    dice: random.Random, number: int, kinds: Sequence[str], weights: Sequence[float], per_second: float
) -> Planned:
    kind = dice.choices(kinds, weights)[0]
    mean = MEAN_SECONDS.get(kind) or MEAN_SECONDS.get(kind.split()[0], 0.0)
    return Planned(
        number,
        kind,
        after_seconds=round(dice.uniform(0.2, 1.8) / per_second, 3),
        chance=round(dice.random(), 6),
        seconds=round(dice.uniform(0.5, 1.5) * mean, 3),
        point=dice.choice(POINTS) if kind.endswith("at a point") else "",
        amount=round(dice.uniform(-3600, 3600), 1) if "clock" in kind else 0.0,
    )


def write(schedule: Sequence[Planned], file: Path) -> None:
    file.write_text("".join(json.dumps(asdict(planned)) + "\n" for planned in schedule))


def read(file: Path) -> list[Planned]:
    return [Planned(**json.loads(line)) for line in file.read_text().splitlines()]
