"""Whether clocks agree: lag is the difference between times that different machines wrote down."""

from __future__ import annotations

from datetime import datetime, timedelta

from livedex.doctor.report import Check, ok, warning

MOST_SKEW = timedelta(seconds=1)


def check_clock(theirs: datetime, asked_at: datetime, answered_at: datetime, whose: str) -> Check:
    """Their time was read between the two of ours; only what lies outside is certain to be skew."""
    skew = max(asked_at - theirs, theirs - answered_at, timedelta())
    if skew <= MOST_SKEW:
        return ok("clock", f"agrees with this machine's to {MOST_SKEW.total_seconds():g} s")
    direction = "behind" if theirs < asked_at else "ahead of"
    return warning(
        "clock",
        f"the clock of {whose} is {skew.total_seconds():,.1f} s {direction} this machine's, so lag and freshness are"
        " wrong by as much. Synchronise both, with chrony or systemd-timesyncd",
        "timedatectl set-ntp true",
    )
