"""How well search finds: judged collections through the whole system, each leg alone and fused in both ways.

    python benchmarks/quality.py [--sets scifact anthropic-codebase]

Each document is a row of a source table and goes the ordinary way: captured, cut with the default chunker, embedded
with all-MiniLM-L6-v2, indexed. A document's rank is that of its best chunk among the first 100. `scifact-train` is what
settings are chosen on, and the others are what is reported. Beside each figure stands the reference of ../shared/data
(exact search over whole documents). Needs the extra `local`; vectors are kept in the temporary directory by the model's
identity and the text, so that a second run embeds nothing. The first takes some ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from beir import Collection, ndcg, read_collection, recall
from scifact_dense import CACHE
from stage import print_machine, stage

import livedex
from livedex.adapters.embedders.local import LocalEmbedder
from livedex.ports import Vectors

DEPTH = 100
REFERENCE = {
    ("scifact", "lexical"): 0.6791,
    ("scifact", "dense"): 0.6450,
    ("scifact", "hybrid, rrf"): 0.7133,
    ("scifact", "hybrid, zscore"): 0.7351,
    ("anthropic-codebase", "lexical"): 0.6557,
    ("anthropic-codebase", "dense"): 0.5819,
    ("anthropic-codebase", "hybrid, rrf"): 0.6761,
    ("anthropic-codebase", "hybrid, zscore"): 0.6972,
}
VIEWS = """
views:
  zscore: {from: kb, embedder: local, fusion: zscore}
  rrf: {from: kb, embedder: local, fusion: rrf}
"""


class Remembered:
    """An embedder that keeps its vectors on disk. Implements `livedex.ports.Embedder`."""

    def __init__(self, embedder: LocalEmbedder, directory: Path) -> None:
        self._embedder = embedder
        self.identity = embedder.identity
        self.batch_size = embedder.batch_size
        directory.mkdir(parents=True, exist_ok=True)
        self._kept = sqlite3.connect(directory / f"{self.identity.name.replace(':', '-')}.sqlite")
        self._kept.execute("CREATE TABLE IF NOT EXISTS vectors (hash blob PRIMARY KEY, vector blob)")

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        hashes = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        found = {key: self._look_up(key) for key in hashes}
        missing = [n for n, key in enumerate(hashes) if found[key] is None]
        if missing:
            made = await self._embedder.embed_documents([texts[n] for n in missing])
            rows = [(hashes[n], vector.astype(np.float32).tobytes()) for n, vector in zip(missing, made, strict=True)]
            with self._kept:
                self._kept.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
        return np.stack([np.frombuffer(self._look_up(key) or b"", np.float32) for key in hashes])

    def _look_up(self, key: bytes) -> bytes | None:
        row = self._kept.execute("SELECT vector FROM vectors WHERE hash = ?", (key,)).fetchone()
        return row[0] if row else None

    async def embed_query(self, text: str) -> Vectors:
        vector: Vectors = (await self.embed_documents([text]))[0]
        return vector

    async def close(self) -> None:
        self._kept.close()
        await self._embedder.close()


async def rankings(
    index: livedex.Index, view: str, collection: Collection, mode: str, *, exact: bool
) -> list[list[str]]:
    found = []
    for query in collection.queries:
        retrieval = await index.search(view, query, top_k=DEPTH, mode=mode, exact=exact)
        found.append(list(dict.fromkeys(hit.document_id for hit in retrieval.hits)))
    return found


def report(name: str, label: str, collection: Collection, ranked: Sequence[Sequence[str]]) -> None:
    judged = list(zip(ranked, collection.judgements, strict=True))
    quality = float(np.mean([ndcg(ranking, judgements, 10) for ranking, judgements in judged]))
    recalls = [
        float(np.mean([recall(ranking, judgements, depth) for ranking, judgements in judged])) for depth in (5, 10, 20)
    ]
    reference = REFERENCE.get((name, label.removesuffix(", exact")))
    beside = "" if reference is None else f"  (reference {reference:.4f})"
    print(
        f"  {label:24} nDCG@10 {quality:.4f}  recall@5/10/20 {' '.join(f'{r:.4f}' for r in recalls)}{beside}",
        flush=True,
    )


async def measure(names: Sequence[str]) -> None:
    """Collections of one corpus, over one index."""
    embedder = Remembered(LocalEmbedder(cache_directory=CACHE), Path(tempfile.gettempdir()) / "livedex-benchmarks")
    collection = read_collection(names[0])
    async with stage() as place:
        place.config.write_text(place.config.read_text().partition("views:")[0] + VIEWS)
        # A document's first words are its title, as in the reference figures.
        place.fill([(key, title, f"{title}\n\n{text}".strip()) for key, title, text in collection.documents])
        async with livedex.open(place.config, environ=place.environ, embedders={"local": embedder}) as index:
            await index.sync()
            chunks = (await index.status()).views[0].chunks
            print(f"{names[0]}: {len(collection.documents):,} documents in {chunks:,} chunks")
            for name in names:
                judged = read_collection(name)
                print(f" {name}, {len(judged.queries)} queries")
                for label, view, mode, exact in (
                    ("lexical", "zscore", "lexical", False),
                    ("dense", "zscore", "dense", False),
                    ("hybrid, rrf", "rrf", "hybrid", False),
                    ("hybrid, zscore", "zscore", "hybrid", False),
                    ("hybrid, zscore, exact", "zscore", "hybrid", True),
                ):
                    report(name, label, judged, await rankings(index, view, judged, mode, exact=exact))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["anthropic-codebase", "scifact-train", "scifact"])
    chosen = parser.parse_args().sets
    print_machine()
    print("default chunker, all-MiniLM-L6-v2 fp32, a document's rank is that of its best chunk")
    for names in (["anthropic-codebase"], [name for name in ("scifact-train", "scifact") if name in chosen]):
        if set(names) & set(chosen):
            await measure(names)


if __name__ == "__main__":
    asyncio.run(main())
