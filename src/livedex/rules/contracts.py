"""What a consumer is promised about every hit: hits × contract → what is served, what is withheld, and why. Pure.

A reason names the clause's bound and never what a document says, so that it can be shown to anybody and kept.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from livedex.model import Dropped, Hit, Outcome, Verdict, Violation
from livedex.rules.versions import outside

_CHECKSUM = re.compile("[0-9a-f]{32}")
"""What livedex calls the version of a document that has none of its own. As a text it has its place in every order, and
now and then it has digits only."""
MOST_DROPPED = 50
"""So many withheld chunks stand on a verdict at most, the best ones."""


class OnViolation(StrEnum):
    """What comes of a hit that violates its contract; it is withheld in any case."""

    DROP = "drop"
    ABSTAIN = "abstain"
    ESCALATE = "escalate"


@dataclass(frozen=True, slots=True)
class Contract:
    """The clauses of one view, as livedex.yaml has them; what is empty or None promises nothing.

    `document_types` maps a metadata name to the values that are accepted. `max_staleness_seconds` bounds the lag of the
    whole view and how long a hit may have been out of date. `min_hits` is how many hits an answer takes.
    """

    view: str
    require: tuple[str, ...] = ()
    document_types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    section_types: tuple[str, ...] = ()
    min_version: str | None = None
    max_version: str | None = None
    max_age_seconds: float | None = None
    max_staleness_seconds: float | None = None
    min_characters: int = 0
    complete: bool = False
    min_score: Mapping[str, float] = field(default_factory=dict)
    min_hits: int = 1
    on_violation: OnViolation = OnViolation.DROP

    @property
    def clauses(self) -> dict[str, Any]:
        """Whatever it promises, in the words of livedex.yaml."""
        version = {"min": self.min_version, "max": self.max_version}
        written = {
            "require": list(self.require),
            "document_types": {name: list(accepted) for name, accepted in sorted(self.document_types.items())},
            "section_types": list(self.section_types),
            "version": {bound: value for bound, value in version.items() if value is not None},
            "max_age": None if self.max_age_seconds is None else f"{self.max_age_seconds:g}s",
            "max_staleness": None if self.max_staleness_seconds is None else f"{self.max_staleness_seconds:g}s",
            "min_characters": self.min_characters,
            "complete": self.complete,
            "min_score": dict(sorted(self.min_score.items())),
        }
        promised = {clause: value for clause, value in written.items() if value}
        return {**promised, "min_hits": self.min_hits, "on_violation": self.on_violation.value}

    @property
    def name(self) -> str:
        """Names this version of it: another clause, another name."""
        canonical = json.dumps(self.clauses, sort_keys=True, ensure_ascii=False)
        return f"{self.view}-{hashlib.blake2b(canonical.encode(), digest_size=4).hexdigest()}"

    def depth(self, top_k: int) -> int:
        """How many of the best chunks decide about an answer of `top_k` hits: who asks for fewer hits than the contract
        takes as evidence does not get by with less evidence."""
        return max(top_k, self.min_hits)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a contract asks about a chunk. `changed_at`: when the document says it was changed, else when it was
    committed. `stale_since`: None when it is up to date. `scores` is None where nothing was asked for yet."""

    metadata: Mapping[str, Any]
    section_type: str
    version: str
    changed_at: datetime | None
    stale_since: datetime | None
    characters: int
    complete: bool
    scores: Mapping[str, float] | None

    @classmethod
    def of(cls, hit: Hit) -> Facts:
        return cls(
            hit.metadata,
            hit.section_type,
            hit.document_version,
            hit.updated_at or hit.source_time,
            hit.stale_since,
            len(hit.text),
            hit.complete is True,
            hit.scores,
        )


@dataclass(frozen=True, slots=True)
class Judged:
    hit: Hit
    violations: tuple[Violation, ...]


def judge(facts: Facts, contract: Contract, now: datetime) -> tuple[Violation, ...]:
    """Every clause that a chunk violates at `now`, the store's time."""
    found = ((clause, reason_of(facts, contract, now)) for clause, reason_of in _CLAUSES.items())
    return tuple(Violation(clause, reason) for clause, reason in found if reason is not None)


def judge_hits(hits: Sequence[Hit], contract: Contract, now: datetime) -> list[Judged]:
    return [Judged(hit, judge(Facts.of(hit), contract, now)) for hit in hits]


def is_short(judged: Sequence[Judged], contract: Contract, top_k: int) -> bool:
    """Whether hits were dropped and others would be served in their place."""
    within = sum(not each.violations for each in judged)
    return contract.on_violation is OnViolation.DROP and within < contract.depth(top_k)


def judge_view(contract: Contract, lag_seconds: float | None) -> tuple[Violation, ...]:
    """What the view as a whole violates, whatever the query. `lag_seconds` is None before the first load is
    complete."""
    most = contract.max_staleness_seconds
    if most is None or (lag_seconds is not None and lag_seconds <= most):
        return ()
    if lag_seconds is None:
        return (Violation("max_staleness", "the first load is not complete"),)
    return (Violation("max_staleness", f"the view is {_span(lag_seconds)} old, at most {_span(most)} is allowed"),)


def decide(
    judged: Sequence[Judged], contract: Contract, name: str, lag_seconds: float | None, top_k: int
) -> tuple[tuple[Hit, ...], Verdict]:
    """The hits to serve, at most `top_k`, and the verdict. `judged` is best first; `name` is the
    contract's."""
    depth = contract.depth(top_k)
    decisive = judged if contract.on_violation is OnViolation.DROP else judged[:depth]
    within = sum(not each.violations for each in decisive)
    unmet = list(judge_view(contract, lag_seconds))
    if contract.on_violation is not OnViolation.DROP:
        unmet += _summary(decisive)
    if within < contract.min_hits:
        unmet.append(Violation("min_hits", _too_few(within, decisive, contract)))
    if unmet:
        escalates = contract.on_violation is OnViolation.ESCALATE
        outcome = Outcome.ESCALATED if escalates else Outcome.ABSTAINED
        return (), Verdict(name, outcome, tuple(unmet), _dropped(decisive))
    served: list[Hit] = []
    withheld: list[Judged] = []
    for each in decisive:
        if each.violations:
            withheld.append(each)
        else:
            served.append(each.hit)
        if len(served) == top_k:
            break  # what stands behind the last hit was looked at to be on the safe side only
    return tuple(served), Verdict(name, Outcome.ANSWERED, (), _dropped(withheld))


def _summary(judged: Sequence[Judged]) -> list[Violation]:
    """One violation a clause, for all hits that violate it."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for violation in (violation for each in judged for violation in each.violations):
        first.setdefault(violation.clause, violation.reason)
        counts[violation.clause] += 1
    return [Violation(clause, f"{counts[clause]} of {len(judged)} hits: {reason}") for clause, reason in first.items()]


def _too_few(within: int, judged: Sequence[Judged], contract: Contract) -> str:
    counts = Counter(violation.clause for each in judged for violation in each.violations)
    withheld = ", ".join(f"{clause} {number}" for clause, number in counts.most_common())
    asked = f"{within} found within the contract, at least {contract.min_hits} needed"
    return f"{asked}; withheld because of {withheld}" if withheld else asked


def _dropped(judged: Sequence[Judged]) -> tuple[Dropped, ...]:
    return tuple(
        Dropped(
            each.hit.document_id,
            each.hit.document_version,
            each.hit.chunk_id,
            each.hit.source,
            each.hit.score,
            each.hit.scores,
            each.violations,
        )
        for each in judged[:MOST_DROPPED]
    )


def _lacking(facts: Facts, contract: Contract, now: datetime) -> str | None:
    lacking = [name for name in contract.require if is_blank(facts.metadata.get(name))]
    return f"{', '.join(lacking)} missing or blank" if lacking else None


def is_blank(value: Any) -> bool:
    """None, text of spaces, and lists and mappings with nothing else in them. False and 0 say something."""
    match value:
        case str():
            return not value.strip()
        case Mapping():
            return all(map(is_blank, value.values()))
        case list() | tuple():
            return all(map(is_blank, value))
        case _:
            return value is None


def _of_another_type(facts: Facts, contract: Contract, now: datetime) -> str | None:
    for name, accepted in contract.document_types.items():
        if not is_accepted(facts.metadata.get(name), accepted):
            return f"{name} is none of: {', '.join(accepted)}"
    return None


def is_accepted(value: Any, accepted: Sequence[str]) -> bool:
    """As a filter accepts it: the value as text, or for a list any text in it."""
    if isinstance(value, list):
        return any(isinstance(each, str) and each in accepted for each in value)
    if value is None:
        return False
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) in accepted


def _of_another_section_type(facts: Facts, contract: Contract, now: datetime) -> str | None:
    if not contract.section_types or facts.section_type in contract.section_types:
        return None
    return f"the section type is none of: {', '.join(contract.section_types)}"


def _of_another_version(facts: Facts, contract: Contract, now: datetime) -> str | None:
    if contract.min_version is None and contract.max_version is None:
        return None
    if _CHECKSUM.fullmatch(facts.version):
        return "the document has no version"
    return outside(facts.version, contract.min_version, contract.max_version)


def _too_old(facts: Facts, contract: Contract, now: datetime) -> str | None:
    most = contract.max_age_seconds
    if most is None:
        return None
    if facts.changed_at is None:
        return "the document has no time"
    age = (now - facts.changed_at).total_seconds()
    return None if age <= most else f"the document is {_span(age)} old, at most {_span(most)} is allowed"


def _too_stale(facts: Facts, contract: Contract, now: datetime) -> str | None:
    most = contract.max_staleness_seconds
    if most is None or facts.stale_since is None:
        return None
    stale = (now - facts.stale_since).total_seconds()
    return None if stale <= most else f"a newer version waits since {_span(stale)}, at most {_span(most)} is allowed"


def _too_short(facts: Facts, contract: Contract, now: datetime) -> str | None:
    if facts.characters >= contract.min_characters:
        return None
    return f"the chunk has {facts.characters} characters, at least {contract.min_characters} are needed"


def _incomplete(facts: Facts, contract: Contract, now: datetime) -> str | None:
    return "not all chunks of the document are there" if contract.complete and not facts.complete else None


def _too_far(facts: Facts, contract: Contract, now: datetime) -> str | None:
    if facts.scores is None:
        return None
    for leg, least in contract.min_score.items():
        if leg not in facts.scores:
            return f"it has no {leg} score, at least {least:g} is needed"
        if facts.scores[leg] < least:
            return f"the {leg} score is {facts.scores[leg]:.3g}, at least {least:g} is needed"
    return None


_CLAUSES: Mapping[str, Callable[[Facts, Contract, datetime], str | None]] = {
    "require": _lacking,
    "document_types": _of_another_type,
    "section_types": _of_another_section_type,
    "version": _of_another_version,
    "max_age": _too_old,
    "max_staleness": _too_stale,
    "min_characters": _too_short,
    "complete": _incomplete,
    "min_score": _too_far,
}
"""The clauses that each chunk is judged by, named as in livedex.yaml."""

CHUNK_CLAUSES = tuple(_CLAUSES)


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s"
