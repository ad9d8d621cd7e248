"""How well the local embedder retrieves: SciFact, exact search, beside the reference figures for the same model.

    python benchmarks/scifact_dense.py

Needs the test data (LIVEDEX_DATA, default ../shared/data) and the extra `local`. Fetches the weights if they are not in
LIVEDEX_CACHE (default ~/.cache/livedex). Vectors are kept in the temporary directory, under the model identity and a
hash of the texts: a second run only searches. Some minutes on two cores.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livedex.adapters.embedders import weights
from livedex.adapters.embedders.local import LocalEmbedder
from livedex.ports import Embedder, Vectors

DATA = Path(os.environ.get("LIVEDEX_DATA", Path(__file__).parents[2] / "shared" / "data")) / "ir" / "scifact"
CACHE = Path(os.environ.get("LIVEDEX_CACHE", Path.home() / ".cache" / "livedex"))
VECTORS = Path(tempfile.gettempdir()) / "livedex-benchmarks"
REFERENCE = {"nDCG@10": 0.6450, "recall@5": 0.7379, "recall@10": 0.7817, "recall@20": 0.8373}
DEPTH = 20


@dataclass(frozen=True, slots=True)
class Collection:
    """Texts by row, and per query the relevance of the rows that were judged."""

    documents: Sequence[str]
    queries: Sequence[str]
    judgements: Sequence[Mapping[int, int]]


def read_collection(directory: Path) -> Collection:
    with gzip.open(directory / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        corpus = [json.loads(line) for line in lines]
    rows = {document["_id"]: row for row, document in enumerate(corpus)}
    texts = {}
    for line in (directory / "queries.jsonl").read_text(encoding="utf-8").splitlines():
        query = json.loads(line)
        texts[query["_id"]] = query["text"]
    judged: dict[str, dict[int, int]] = {}
    for line in (directory / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query_id, document_id, relevance = line.split("\t")
        judged.setdefault(query_id, {})[rows[document_id]] = int(relevance)
    return Collection(
        documents=[f"{document['title']} {document['text']}" for document in corpus],
        queries=[texts[query_id] for query_id in judged],
        judgements=list(judged.values()),
    )


def ndcg(ranking: Sequence[int], judgements: Mapping[int, int], depth: int) -> float:
    """As trec_eval's ndcg_cut: each gain divided by log2(rank + 1), over that of the best possible ranking."""
    ideal = sorted(judgements.values(), reverse=True)
    return _discounted([judgements.get(row, 0) for row in ranking[:depth]]) / _discounted(ideal[:depth])


def _discounted(gains: Sequence[int]) -> float:
    return float(sum(gain / np.log2(rank + 1) for rank, gain in enumerate(gains, start=1)))


def recall(ranking: Sequence[int], judgements: Mapping[int, int], depth: int) -> float:
    relevant = {row for row, relevance in judgements.items() if relevance > 0}
    return len(relevant.intersection(ranking[:depth])) / len(relevant)


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
    rankings = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :DEPTH].tolist()
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
    if not DATA.is_dir():
        sys.exit(f"No SciFact in {DATA}. Set LIVEDEX_DATA to the directory that holds ir/scifact.")
    collection = read_collection(DATA)
    await weights.fetch("all-MiniLM-L6-v2", CACHE, progress=lambda stage, done, total: None)
    embedder = LocalEmbedder(cache_directory=CACHE)
    await embedder.load()
    print(f"machine     {platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    print(f"model       {embedder.identity.name}, {embedder.identity.precision}, exact search")
    print(
        f"collection  {len(collection.documents):,} abstracts (title, a space, text), {len(collection.queries)} queries"
    )
    queries, milliseconds = await embed_queries(embedder, collection.queries)
    documents, rate = await embed_corpus(embedder, collection.documents)
    print("abstracts   " + ("vectors of an earlier run" if rate is None else f"{rate:.1f} a second"))
    print(f"queries     {np.percentile(milliseconds, 50):.1f} ms median, {np.percentile(milliseconds, 95):.1f} ms p95")
    report(collection, documents, queries)
    await embedder.close()


if __name__ == "__main__":
    asyncio.run(main())
