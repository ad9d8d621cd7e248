"""How large chunks may be asked to be."""

from __future__ import annotations

from livedex.errors import ConfigError

LEAST_MAX_TOKENS = 16


def check_sizes(max_tokens: int, part_tokens: int, part: str = "min_tokens") -> None:
    """Raise ConfigError unless a chunk has room for some words and the part of it that `part` names is at most half."""
    if max_tokens < LEAST_MAX_TOKENS:
        raise ConfigError(f"max_tokens is {max_tokens}; a chunk needs at least {LEAST_MAX_TOKENS}.")
    if not 0 <= part_tokens <= max_tokens // 2:
        raise ConfigError(f"{part} is {part_tokens}; it must be from 0 to half of max_tokens, {max_tokens // 2}.")
