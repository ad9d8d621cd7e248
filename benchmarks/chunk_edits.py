"""How much of a document is embedded again when someone edits it: two streams of real edits, four ways to cut.

    python benchmarks/chunk_edits.py [--max-tokens N] [--min-tokens N] [--tokenizer tokenizer.json]

Needs the test data (LIVEDEX_DATA, default ../shared/data). With the `tokenizer.json` of all-MiniLM-L6-v2 it also counts
the embedded texts that the model would truncate. An edit is an update, or a rename with a change, after which the
content differs; a text is embedded again when the document's version before did not hold it. A one-paragraph edit
changes, adds or removes one paragraph of a document with two headings or more. About a minute on one core.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from livedex.adapters.chunkers.markdown import MarkdownChunker
from livedex.adapters.chunkers.markdown_blocks import blocks, with_uniform_line_ends
from livedex.adapters.chunkers.tokens import estimate_tokens

DATA = Path(os.environ.get("LIVEDEX_DATA", Path(__file__).parents[2] / "shared" / "data")) / "streams"
STREAMS = ("govuk-2y", "sourcegraph-2022")  # tuned on the first, reported on the second
WORDS = 150
MODEL_TOKENS = 256
SAMPLE = 10_000

Cut = Callable[[str], Sequence[str]]
"""A document's texts to embed."""


class Edit(NamedTuple):
    before: str
    after: str
    is_one_paragraph: bool


@dataclass(slots=True)
class Tally:
    """Sums over edits."""

    edits: int = 0
    embedded: int = 0
    chunks: int = 0

    def add(self, before: Sequence[str], after: Sequence[str]) -> None:
        self.edits += 1
        self.embedded += (Counter(after) - Counter(before)).total()
        self.chunks += len(after)

    def __str__(self) -> str:
        mean, chunks = self.embedded / self.edits, self.chunks / self.edits
        return f"{mean:6.2f} of {chunks:5.1f} ({self.embedded / self.chunks:.3f})"


def read_edits(file: Path) -> Iterator[Edit]:
    """Every change of content, renamed or not, with the version before it."""
    current: dict[str, str] = {}
    with gzip.open(file, "rt", encoding="utf-8", newline="") as lines:
        for line in lines:
            event = json.loads(line)
            op, path, content = event["op"], event["path"], event["content"]
            if op == "d":
                current.pop(path, None)
                continue
            before = current.pop(event["old_path"] if op == "m" else path, None)
            current[path] = content
            if op in "um" and before is not None and before != content:
                yield Edit(before, content, _is_one_paragraph(before, content))


def _is_one_paragraph(before: str, after: str) -> bool:
    old, new = (re.split(r"\n[ \t]*\n\s*", content.strip()) for content in (before, after))
    shorter = min(len(old), len(new))
    first = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    last = next((i for i in range(shorter - first) if old[-1 - i] != new[-1 - i]), shorter - first)
    if max(len(old), len(new)) - first - last != 1:
        return False
    return sum(block.level > 0 for block in blocks(with_uniform_line_ends(after))) >= 2


def at_headings(content: str) -> Sequence[str]:
    """The reference: sections, of which paragraphs are packed from the front into chunks of at most 150 words."""
    texts: list[str] = []
    for section in _sections(content):
        words: list[str] = []
        for paragraph in re.split(r"\n\s*\n", section):
            more = paragraph.split()
            if words and len(words) + len(more) > WORDS:
                texts.append(" ".join(words))
                words = []
            words += more
            if len(more) > WORDS:
                texts += fixed_window(paragraph)
                words = []
        if words:
            texts.append(" ".join(words))
    return texts


def _sections(content: str) -> Iterator[str]:
    lines: list[str] = []
    in_fence = False
    for line in content.split("\n"):
        if line.lstrip().startswith(("```", "~~~")):
            in_fence = not in_fence
        if lines and not in_fence and re.match(r"#{1,6}\s", line):
            yield "\n".join(lines)
            lines = []
        lines.append(line)
    yield "\n".join(lines)


def fixed_window(content: str) -> Sequence[str]:
    words = content.split()
    return [" ".join(words[start : start + WORDS]) for start in range(0, len(words), WORDS)]


def report_edits(name: str, edits: Sequence[Edit], cuts: dict[str, Cut]) -> None:
    paragraph_edits = [edit for edit in edits if edit.is_one_paragraph]
    print(f"\n{name}: {len(edits):,} edits, {len(paragraph_edits):,} of them of one paragraph")
    print(f"{'texts embedded':34}{'an edit':>24}{'a one-paragraph edit':>26}")
    for label, cut in cuts.items():
        all_edits, one_paragraph = Tally(), Tally()
        for edit in edits:
            before, after = cut(edit.before), cut(edit.after)
            all_edits.add(before, after)
            if edit.is_one_paragraph:
                one_paragraph.add(before, after)
        print(f"{label:34}{all_edits!s:>24}{one_paragraph!s:>26}")


def report_speed(contents: Sequence[str], chunker: MarkdownChunker) -> None:
    best = float("inf")
    chunks = 0
    for _ in range(3):
        started = time.process_time()
        chunks = sum(len(chunker.chunk(content, "")) for content in contents)
        best = min(best, time.process_time() - started)
    characters = sum(map(len, contents))
    started = time.process_time()
    windows = sum(len(fixed_window(content)) for content in contents)
    window_seconds = time.process_time() - started
    print(
        f"speed               {chunks / best:,.0f} chunks and {characters / best / 1e6:.1f} million characters a second"
        f" (fixed window {windows / window_seconds:,.0f} and {characters / window_seconds / 1e6:.1f})"
    )


def report_sizes(contents: Sequence[str], chunker: MarkdownChunker, tokenizer: Path | None) -> None:
    texts = {chunk.embedded_text for content in contents for chunk in chunker.chunk(content, "")}
    tokens = sorted(estimate_tokens(text) for text in texts)
    shares = {f"p{percent}": tokens[len(tokens) * percent // 100] for percent in (1, 5, 25, 50, 75, 95, 99)}
    print(
        f"\ntokens a chunk      mean {sum(tokens) / len(tokens):.0f}  "
        + "  ".join(f"{k} {v}" for k, v in shares.items())
    )
    if tokenizer is None:
        print("model tokens        not counted: no --tokenizer given")
        return
    sample = sorted(texts)[:: max(1, len(texts) // SAMPLE)]
    counts = _model_tokens(tokenizer, sample)
    within = sum(count <= MODEL_TOKENS for count in counts) / len(counts)
    ratios = sorted(count / estimate_tokens(text) for count, text in zip(counts, sample, strict=True))
    print(
        f"model tokens        {within:.2%} of {len(sample):,} texts have at most {MODEL_TOKENS}; longest {max(counts)}"
        f"; median {ratios[len(ratios) // 2]:.2f} times the estimate"
    )


def _model_tokens(tokenizer: Path, texts: Sequence[str]) -> list[int]:
    from tokenizers import Tokenizer  # noqa: PLC0415  # an optional extra, needed for this figure only

    model = Tokenizer.from_file(str(tokenizer))
    model.no_padding()
    model.no_truncation()
    return [len(encoding.ids) for encoding in model.encode_batch(list(texts))]


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"No streams in {DATA}. Set LIVEDEX_DATA to the directory that holds streams/.")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = MarkdownChunker().recipe
    parser.add_argument("--max-tokens", type=int, default=defaults["max_tokens"])
    parser.add_argument("--min-tokens", type=int, default=defaults["min_tokens"])
    parser.add_argument("--tokenizer", type=Path)
    wanted = parser.parse_args()
    chunker = MarkdownChunker(wanted.max_tokens, wanted.min_tokens)
    with_targets = MarkdownChunker(wanted.max_tokens, wanted.min_tokens, link_targets=True)
    cuts: dict[str, Cut] = {
        "livedex": lambda content: [chunk.embedded_text for chunk in chunker.chunk(content, "")],
        "livedex, counted by whole text": lambda content: [chunk.text for chunk in chunker.chunk(content, "")],
        "livedex, link targets embedded": lambda content: [c.embedded_text for c in with_targets.chunk(content, "")],
        f"at headings, {WORDS} words": at_headings,
        f"fixed window, {WORDS} words": fixed_window,
    }
    print(f"machine             {platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    print(f"chunker             {json.dumps(dict(chunker.recipe))}")
    contents: list[str] = []
    for name in STREAMS:
        edits = list(read_edits(DATA / f"{name}.jsonl.gz"))
        report_edits(name, edits, cuts)
        contents += [edit.after for edit in edits]
    report_sizes(contents, chunker, wanted.tokenizer)
    report_speed(contents, chunker)


if __name__ == "__main__":
    main()
