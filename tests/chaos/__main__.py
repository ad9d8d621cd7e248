"""livedex under faults: `python -m tests.chaos --faults 2000 --seed 7`, from the repository's root.

Prints the schedule's mix, what was promised and kept, and how fast each kind of fault was got over; ends with 1 when
something was wrong, and then keeps the folder with the schedule, what happened and every process's journal. The same
run again: `--schedule FOLDER/schedule.jsonl --seed SEED`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from tests.chaos import schedule
from tests.chaos.run import MOST_WRONGS, Report, Run
from tests.chaos.schedule import Planned

LAST_FAULTS = 50


def main() -> int:
    wanted = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="livedex-chaos-"))
    folder.chmod(0o711)  # a server of another user has to get in
    planned = (
        schedule.read(wanted.schedule) if wanted.schedule else schedule.draw(wanted.seed, wanted.faults, wanted.rate)
    )
    schedule.write(planned, folder / "schedule.jsonl")
    _say_what_will_be(planned, wanted.seed, folder)
    run = Run(folder, planned, wanted.seed, wanted.per_round)
    report = asyncio.run(run.play())
    say_what_was(report, run.strikes.impossible)
    if report.wrongs:
        _say_the_last_faults(folder)
        return 1
    if not wanted.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--faults", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rate", type=float, default=1.1, help="faults a second")
    parser.add_argument("--per-round", type=int, default=50, help="faults between two comparisons with the source")
    parser.add_argument("--schedule", type=Path, help="the schedule of an earlier run instead of a new one")
    parser.add_argument("--keep", action="store_true", help="keep the folder in any case")
    return parser.parse_args()


def _say_what_will_be(planned: Sequence[Planned], seed: int, folder: Path) -> None:
    say(f"livedex {_version()}, Python {platform.python_version()}, {os.cpu_count()} cores, seed {seed}")
    say(f"{len(planned)} faults over about {sum(each.after_seconds for each in planned):.0f} s, in {folder}")
    for kind, count in Counter(each.kind for each in planned).most_common():
        say(f"{count:6}  {kind}")
    say()


def _version() -> str:
    try:
        return metadata.version("livedex")
    except metadata.PackageNotFoundError:
        return "from its source tree"


def say_what_was(report: Report, impossible: dict[str, str]) -> None:
    say(f"{report.seconds:.0f} s, {report.rounds} rounds, {report.chunks_compared:,} chunks compared when quiet")
    say(f"written: {report.committed.total():,} transactions {dict(report.committed)}")
    say(
        f"         {report.rolled_back} rolled back, {report.in_doubt} whose outcome had to be found out; "
        f"{report.file_changes:,} changes of files"
    )
    say(f"asked: {dict(report.answers)}; refused: {dict(report.refusals)}")
    say(f"embedded: {report.embedded:,} texts, {report.embedded_again:,} of them again after a fault cut them off")
    say(f"processes: {report.starts} starts, ends {dict(report.ends)}; failures noted {dict(report.failures)}")
    say(f"servers: outages {report.outages}; set aside and sent again: {report.set_aside}; audits: {report.audits}")
    if "source's clock is wrong" in report.faults:
        say(f"while the source's clock jumped, answers said that they were fresher than they were by at most "
            f"{report.too_fresh_seconds:.1f} s")  # fmt: skip
    say(f"settled after faults in {_spread(report.settling)}")
    say("\n  faults  got over in seconds (p50, p90, most)   kind")
    for kind, count in report.faults.most_common():
        say(f"{count:8}  {_spread(report.recovery.get(kind, [])):42}  {kind}")
    for kind, reason in impossible.items():
        say(f"\nSKIPPED: {kind}: {reason}")
    say(f"\n{len(report.wrongs)} WRONG" if report.wrongs else "\nevery promise was kept")
    for wrong in report.wrongs[:MOST_WRONGS]:
        say(f"  {wrong}")


def _say_the_last_faults(folder: Path) -> None:
    """Those before the first wrong, which comes last."""
    say(f"\nThe last {LAST_FAULTS} faults before; everything is in {folder}/faults.jsonl:")
    lines = (folder / "faults.jsonl").read_text().splitlines()
    first = next((number for number, line in enumerate(lines) if '"kind": "WRONG"' in line), len(lines))
    for line in lines[max(0, first - LAST_FAULTS) : first + 1]:
        say(f"  {line[:300]}")


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    return "  ".join(f"{ordered[min(len(ordered) - 1, int(len(ordered) * p))]:7.2f}" for p in (0.5, 0.9, 1.0))


def say(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
