"""What has to be true for livedex to work here, looked at without changing anything."""

from livedex.doctor.examine import examine
from livedex.doctor.report import Check, Group, Report, State

__all__ = ["Check", "Group", "Report", "State", "examine"]
