"""How the command line tells what a contract withheld, and why: references and reasons, no text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from livedex.cli.terminal import counted, note, one_line, say
from livedex.model import Dropped, Outcome, Verdict

NEAREST = 5


def show_verdict(verdict: Verdict | None) -> None:
    """Of an answer how many chunks were withheld from it; of none which clauses kept it back, and what was nearest."""
    if verdict is None:
        return
    if verdict.outcome is Outcome.ANSWERED:
        if verdict.dropped:
            counts = Counter(violation.clause for dropped in verdict.dropped for violation in dropped.violations)
            reasons = ", ".join(f"{clause} {number}" for clause, number in counts.most_common())
            withheld = counted(len(verdict.dropped), "chunk")
            note((f"{withheld} withheld under the contract {verdict.contract}: {reasons}", "yellow"))
        return
    say(("No answer: ", "bold yellow"), (f"the contract {verdict.contract} is not kept.", "bold"))
    for violation in verdict.violations:
        say("  ", f"{violation.clause}: {violation.reason}")
    show_dropped(verdict.dropped)
    if verdict.escalation is not None:
        say("  ", f"A person will look at it: livedex escalations show {verdict.escalation}")


def show_dropped(nearest: Sequence[Dropped]) -> None:
    """What was nearest and withheld, best first."""
    for dropped in nearest[:NEAREST]:
        scores = ", ".join(f"{leg} {score:.3g}" for leg, score in dropped.scores.items())
        reasons = "; ".join(f"{violation.clause}: {violation.reason}" for violation in dropped.violations)
        say("  withheld: ", (one_line(dropped.document_id), "bold"), (f"  ({scores})  ", "dim"), reasons)
    if len(nearest) > NEAREST:
        say("  ", (f"and {counted(len(nearest) - NEAREST, 'chunk')} more", "dim"))
