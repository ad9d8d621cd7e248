"""Chunkers: one file = one kind of document, each an implementation of `livedex.ports.Chunker`.

markdown.py         MarkdownChunker
markdown_blocks.py  its scanner: where Markdown's blocks and sections start and end
packing.py          which pieces of a text share a chunk, so that a local edit stays local
pieces.py           where a text that is too long may be cut: sentences, words, characters
tokens.py           how many tokens a text has, roughly and fast
"""
