"""HtmlParser: a page's main content as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class HtmlParser:
    """Reads pages as browsers do, whatever they forgot to close, and keeps what they are about: what stands inside
    `main` or `role="main"`, else in articles, else in the body, without navigation, banners, asides and forms. Where
    that leaves nothing, it takes the whole body, then forms too: some pages are one.

    Raises DocumentError for a page that is nested more than 16,384 levels deep.
    """

    media_types: Sequence[str] = ("text/html", "application/xhtml+xml")

    @property
    def recipe(self) -> Mapping[str, Any]:
        return {"kind": "html", "version": 1}

    def parse(self, content: str) -> str:
        # The first call loads lxml, which those who have no HTML never need.
        from livedex.adapters.parsers.html_events import body, main_content, read_events
        from livedex.adapters.parsers.html_markdown import to_markdown

        events = read_events(content)
        whole = [body(events)]
        main = main_content(events)
        for ranges, forms in ((main, False), (whole, False), (whole, True)):
            text = to_markdown(events, ranges, in_main=ranges is main, forms=forms)
            if text:
                return text
        return ""
