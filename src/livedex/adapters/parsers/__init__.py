"""Parsers: one file = one media type, each an implementation of `livedex.ports.Parser`.

- html.py: HtmlParser
- html_events.py: HTML as a flat list of events, and where the main content is in it
- html_markdown.py: the events as Markdown
- html_tables.py: a table's cells as a Markdown table
"""
