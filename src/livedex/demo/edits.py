"""What the application does to its table during the tour, and by which search one sees that it arrived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from livedex.model import Hit, Retrieval

VIEW = "handbook"

Shows = Callable[[Retrieval, datetime], bool]
"""Whether a retrieval shows an edit that was being committed at that time."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One statement. `question` finds `document_ids` before it, after it, or both; `arrived` says what a search shows
    then. `said` are words of the document that answer the question, before or after it."""

    kind: str
    what: str
    statement: str
    question: str
    document_ids: tuple[str, ...]
    arrived: str
    shows: Shows
    said: tuple[str, ...]
    filters: Mapping[str, str] = field(default_factory=dict)

    def hit(self, retrieval: Retrieval) -> Hit | None:
        """The best hit on this edit's document that holds one of the words looked for, else the best hit on it."""
        hits = [hit for hit in retrieval.hits if hit.document_id in self.document_ids]
        answers = (hit for hit in hits if any(words in hit.text for words in self.said))
        return next(answers, hits[0] if hits else None)


def _found(document_id: str, words: str = "") -> Shows:
    return lambda retrieval, _: any(
        hit.document_id == document_id and words in " ".join(hit.text.split()) for hit in retrieval.hits
    )


def _gone(document_id: str) -> Shows:
    return lambda retrieval, _: all(hit.document_id != document_id for hit in retrieval.hits)


def _passed(retrieval: Retrieval, committing: datetime) -> bool:
    """The watermark has moved past the commit."""
    return all(mark.time is not None and mark.time >= committing for mark in retrieval.watermark)


PARAGRAPH = Edit(
    kind="update",
    what="One paragraph changes",
    statement="""\
UPDATE documents SET updated_at = now(), content =
  replace(content, 'within fourteen days',
                   'within three working days')
WHERE doc_id = 'refund-policy'""",
    question="When is a refund paid to my card or account?",
    document_ids=("refund-policy",),
    arrived="searchable",
    shows=_found("refund-policy", "within three working days"),
    said=("within fourteen days", "within three working days"),
)
SETTING = Edit(
    kind="update",
    what="One row of a table changes",
    statement="""\
UPDATE documents SET updated_at = now(), content =
  replace(content, '`PAYMENT_RETRY_LIMIT` | 3',
                   '`PAYMENT_RETRY_LIMIT` | 2')
WHERE doc_id = 'payment-settings'""",
    question="PAYMENT_RETRY_LIMIT",
    document_ids=("payment-settings",),
    arrived="searchable",
    shows=_found("payment-settings", "`PAYMENT_RETRY_LIMIT` | 2"),
    said=("`PAYMENT_RETRY_LIMIT` | 3", "`PAYMENT_RETRY_LIMIT` | 2"),
)
INSERT = Edit(
    kind="insert",
    what="A document is added",
    statement="""\
INSERT INTO documents (doc_id, title, category, content)
VALUES ('parental-leave', 'Parental leave', 'policy',
'Every parent may take sixteen weeks of parental leave at
full pay, in up to three parts, before the child is two
years old. Tell your lead eight weeks ahead.')""",
    question="How many weeks of parental leave do I get?",
    document_ids=("parental-leave",),
    arrived="searchable",
    shows=_found("parental-leave"),
    said=("sixteen weeks",),
)
DELETE = Edit(
    kind="delete",
    what="A document is deleted",
    statement="DELETE FROM documents WHERE doc_id = 'gift-wrapping'",
    question="What does gift wrapping cost?",
    document_ids=("gift-wrapping",),
    arrived="gone from searches",
    shows=_gone("gift-wrapping"),
    said=("Wrapping costs",),
)
NO_OP = Edit(
    kind="no-op",
    what="A row is written again as it was",
    statement="""\
UPDATE documents SET title = title
WHERE doc_id = 'expenses'""",
    question="Who pays for train travel?",
    document_ids=("expenses",),
    arrived="seen, and nothing to do",
    shows=_passed,
    said=("Take the train",),
)
METADATA = Edit(
    kind="metadata",
    what="Only the category changes",
    statement="""\
UPDATE documents SET category = 'people'
WHERE doc_id = 'remote-work'""",
    question="May I work from another country?",
    document_ids=("remote-work",),
    arrived="found by the new category",
    shows=_found("remote-work"),
    said=("thirty days a year",),
    filters={"category": "people"},
)
RENAME = Edit(
    kind="rename",
    what="The key changes",
    statement="""\
UPDATE documents SET doc_id = 'pager-handover'
WHERE doc_id = 'oncall-handover'""",
    question="When is the pager handed over?",
    document_ids=("oncall-handover", "pager-handover"),
    arrived="found under the new key only",
    shows=lambda retrieval, committing: (
        _found("pager-handover")(retrieval, committing) and _gone("oncall-handover")(retrieval, committing)
    ),
    said=("On-call weeks change",),
)

EDITS = (PARAGRAPH, SETTING, INSERT, DELETE, NO_OP, METADATA, RENAME)
