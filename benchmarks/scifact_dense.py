"""How well the local embedder retrieves: SciFact, exact search, beside the reference figures for the same model.

    python benchmarks/scifact_dense.py

Needs the test data (LIVEDEX_DATA, default ../shared/data) and the extra `local`. Fetches the weights if they are not in
LIVEDEX_CACHE (default ~/.cache/livedex). Vectors are kept in the temporary directory, under the model identity and a
hash of the texts: a second run only searches. Some minutes on two cores.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from beir import Collection, ndcg, read_collection, recall
from stage import DATA, print_machine

from livedex.adapters.embedders import weights
from livedex.adapters.embedders.local import LocalEmbedder
from livedex.ports import Embedder, Vectors

CACHE = Path(os.environ.get("LIVEDEX_CACHE", Path.home() / ".cache" / "livedex"))
VECTORS = Path(tempfile.gettempdir()) / "livedex-benchmarks"
REFERENCE = {"nDCG@10": 0.6450, "recall@5": 0.7379, "recall@10": 0.7817, "recall@20": 0.8373}
DEPTH = 20


async def embed_corpus(embedder: Embedder, texts: Sequence[str]) -> tuple[Vectors, float | None]:
    """The vectors, and how many texts a second it took; None when they were there already."""
    digest = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()
    file = VECTORS / f"scifact-{embedder.identity.name.replace(':', '-')}-{digest}.npy"
    if await asyncio.to_thread(file.is_file):
        return np.load(file), None
    started = time.perf_counter()
    parts = []
    for start in range(0, len(texts), 256):
        parts.append(await embedder.embed_documents(texts[start : start + 256]))
        done = min(start + 256, len(texts))
        rate = done / (time.perf_counter() - started)
        print(f"\r{done:,} of {len(texts):,} texts, {rate:.1f} a second", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    vectors = np.concatenate(parts)
    await asyncio.to_thread(_store, file, vectors)
    return vectors, len(texts) / (time.perf_counter() - started)


def _store(file: Path, vectors: Vectors) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}.npy")
    np.save(unfinished, vectors)
    unfinished.replace(file)


async def embed_queries(embedder: Embedder, texts: Sequence[str]) -> tuple[Vectors, Sequence[float]]:
    """The vectors, and how many milliseconds each took."""
    vectors, milliseconds = [], []
    for text in texts:
        started = time.perf_counter()
        vectors.append(await embedder.embed_query(text))
        milliseconds.append(1000 * (time.perf_counter() - started))
    return np.stack(vectors), milliseconds


def report(collection: Collection, documents: Vectors, queries: Vectors) -> None:
    best = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :DEPTH].tolist()
    rankings = [[collection.documents[row][0] for row in rows] for rows in best]
    judged = list(zip(rankings, collection.judgements, strict=True))
    figures = {"nDCG@10": float(np.mean([ndcg(ranking, judgements, 10) for ranking, judgements in judged]))}
    for depth in (5, 10, 20):
        figures[f"recall@{depth}"] = float(
            np.mean([recall(ranking, judgements, depth) for ranking, judgements in judged])
        )
    print(f"{'':12}{'here':>8}{'reference':>12}{'difference':>12}")
    for name, figure in figures.items():
        print(f"{name:12}{figure:8.4f}{REFERENCE[name]:12.4f}{figure - REFERENCE[name]:+12.4f}")


async def main() -> None:
    if not (DATA / "ir" / "scifact").is_dir():
        sys.exit(f"No SciFact in {DATA}. Set LIVEDEX_DATA to the directory that holds ir/scifact.")
    collection = read_collection("scifact")
    await weights.fetch("all-MiniLM-L6-v2", CACHE, progress=lambda stage, done, total: None)
    embedder = LocalEmbedder(cache_directory=CACHE)
    await embedder.load()
    print_machine()
    print(f"model       {embedder.identity.name}, {embedder.identity.precision}, exact search")
    print(
        f"collection  {len(collection.documents):,} abstracts (title, a space, text), {len(collection.queries)} queries"
    )
    queries, milliseconds = await embed_queries(embedder, collection.queries)
    documents, rate = await embed_corpus(embedder, [f"{title} {text}" for _, title, text in collection.documents])
    print("abstracts   " + ("vectors of an earlier run" if rate is None else f"{rate:.1f} a second"))
    print(f"queries     {np.percentile(milliseconds, 50):.1f} ms median, {np.percentile(milliseconds, 95):.1f} ms p95")
    report(collection, documents, queries)
    await embedder.close()


if __name__ == "__main__":
    asyncio.run(main())
