"""A span of a document as a chunk."""

from __future__ import annotations

from typing import NamedTuple

from livedex.model import Chunk


class Span(NamedTuple):
    """`visible` is what the model may see of it: the text with other things blanked, before white space is folded."""

    start: int
    end: int
    path: tuple[str, ...]
    section_type: str
    visible: str


def span_chunk(content: str, span: Span, index: int) -> Chunk | None:
    """None where there is nothing but white space, which a very long gap between two words can leave."""
    text = content[span.start : span.end].rstrip()
    if not text:
        return None
    start = span.start
    if text[0].isspace():
        blank = len(text) - len(text.lstrip())
        skipped = max(text.rfind("\n", 0, blank), text.rfind("\r", 0, blank)) + 1  # an indentation stays
        text = text[skipped:]
        start += skipped
    # One line, but for code: line ends of prose, tables and lists change with every reformatting and say no more than a
    # blank does.
    embedded = span.visible.strip("\n").rstrip() if span.section_type == "code" else " ".join(span.visible.split())
    return Chunk(index, start, start + len(text), text, span.path, span.section_type, embedded)
