"""Chunkers: one file = one kind of document, each an implementation of `livedex.ports.Chunker`.

- markdown.py: MarkdownChunker
- text.py: TextChunker
- fixed.py: FixedChunker
- markdown_blocks.py: where Markdown's blocks start and end
- markdown_sections.py: headings, and what stands under them
- packing.py: which pieces of a text share a chunk, so that a local edit stays local
- pieces.py: where a text that is too long may be cut: sentences, words, characters
- sizes.py: how large chunks may be asked to be
- spans.py: a span of a document as a chunk
- tokens.py: how many tokens a text has, roughly and fast
"""
