"""How much of a view is within a contract, before searches are judged by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from livedex.model import Violation
from livedex.rules.contracts import CHUNK_CLAUSES, Contract, Facts, is_blank, judge, judge_view

EXAMPLES = 5
MOST_VALUES = 50
"""So many values of a metadata name are counted by themselves."""


@dataclass(frozen=True, slots=True)
class Clause:
    """How many documents have a chunk that violates it, how many chunks that is, and the names of some documents."""

    clause: str
    documents: int
    chunks: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a contract leaves of a view, whoever asks. Documents without a chunk are in no figure.

    `documents_within` have chunks within the contract only, `documents_partly` others too. `clauses` has those that are
    part of the contract and can be judged without a query. `violations` are those of the view as a whole, as of now.
    `section_types` counts chunks, `document_types` documents by metadata name and value.
    """

    view: str
    contract: str
    documents: int
    documents_within: int
    documents_partly: int
    chunks: int
    chunks_within: int
    clauses: tuple[Clause, ...]
    violations: tuple[Violation, ...]
    section_types: Mapping[str, int]
    document_types: Mapping[str, Mapping[str, int]]


@dataclass(slots=True)
class _Tally:
    documents: Counter[str] = field(default_factory=Counter)
    """`seen`, `within`, `partly`, and those that violate a clause by its name."""
    chunks: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    section_types: Counter[str] = field(default_factory=Counter)
    document_types: dict[str, Counter[str]] = field(default_factory=dict)

    def clause(self, name: str) -> Clause:
        off = f"off {name}"
        return Clause(name, self.documents[off], self.chunks[off], tuple(self.examples.get(name, ())))


async def cover(
    documents: AsyncIterable[Mapping[str, Any]], contract: Contract, now: datetime, lag_seconds: float | None
) -> Coverage:
    """Judge every chunk. `documents` are rows of the statement `facts`."""
    tally = _Tally()
    async for row in documents:
        _count(tally, row, contract, now)
    asked = [clause for clause in CHUNK_CLAUSES if clause in contract.clauses and clause != "min_score"]
    within = tally.chunks["within"]
    violations = judge_view(contract, lag_seconds)
    if within < contract.min_hits:
        reason = f"{within} chunks are within the contract, at least {contract.min_hits} needed"
        violations = (*violations, Violation("min_hits", reason))
    return Coverage(
        view=contract.view,
        contract=contract.name,
        documents=tally.documents["seen"],
        documents_within=tally.documents["within"],
        documents_partly=tally.documents["partly"],
        chunks=tally.chunks["seen"],
        chunks_within=within,
        clauses=tuple(map(tally.clause, asked)),
        violations=violations,
        section_types=dict(tally.section_types.most_common()),
        document_types={name: dict(values.most_common(MOST_VALUES)) for name, values in tally.document_types.items()},
    )


def _count(tally: _Tally, row: Mapping[str, Any], contract: Contract, now: datetime) -> None:
    metadata, complete = row["metadata"], len(row["numbers"]) == row["chunks"]
    violated: set[str] = set()
    within = 0
    for section_type, characters in zip(row["section_types"], row["characters"], strict=True):
        facts = Facts(
            metadata, section_type, row["version"], row["changed_at"], row["stale_since"], characters, complete, None
        )
        violations = judge(facts, contract, now)
        tally.section_types[section_type] += 1
        tally.chunks.update(f"off {violation.clause}" for violation in violations)
        violated.update(violation.clause for violation in violations)
        within += not violations
    tally.chunks["seen"] += len(row["numbers"])
    tally.chunks["within"] += within
    tally.documents["seen"] += 1
    tally.documents["within"] += within == len(row["numbers"])
    tally.documents["partly"] += 0 < within < len(row["numbers"])
    for clause in violated:
        tally.documents[f"off {clause}"] += 1
        examples = tally.examples.setdefault(clause, [])
        if len(examples) < EXAMPLES:
            examples.append(row["document_id"])
    for name in contract.document_types:
        tally.document_types.setdefault(name, Counter()).update(_values(metadata.get(name)))


def _values(value: Any) -> list[str]:
    if isinstance(value, list):
        return [each for each in value if isinstance(each, str)]
    return ["(none)"] if is_blank(value) else [str(value)]
