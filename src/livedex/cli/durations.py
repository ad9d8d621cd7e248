"""Durations on the command line, written as in livedex.yaml."""

from __future__ import annotations

import re

import typer


def duration(written: str) -> float:
    """`500ms`, `5s`, `2m`, `1h` or `7d` in seconds; `0s` too."""
    from livedex.config.values import DURATION_UNITS  # loads pydantic, which help must not wait for

    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|m|h|d)", written.strip())
    if match is None:
        raise typer.BadParameter(f"{written} is no duration with its unit, such as 500ms, 2s, 5m, 1h or 7d")
    return float(match[1]) * DURATION_UNITS[match[2]]
