"""Judged collections in BEIR's layout, and how well a ranking of their documents does."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from stage import DATA

SHARED_CORPUS = {"scifact-train": "scifact"}


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents as (id, title, text), and per query the relevance of the documents that were judged, by id."""

    documents: Sequence[tuple[str, str, str]]
    queries: Sequence[str]
    judgements: Sequence[Mapping[str, int]]


def read_collection(name: str) -> Collection:
    """`name` is a folder of the test data's `ir`."""
    folder = DATA / "ir" / SHARED_CORPUS.get(name, name)
    packed = folder / "corpus.jsonl.gz"
    if packed.exists():
        lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    else:
        lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    corpus = [json.loads(line) for line in lines]
    judged: dict[str, dict[str, int]] = {}
    for line in (DATA / "ir" / name / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query_id, document_id, relevance = line.split("\t")
        judged.setdefault(query_id, {})[document_id] = int(relevance)
    queries = (json.loads(line) for line in (DATA / "ir" / name / "queries.jsonl").read_text().splitlines())
    texts = {query["_id"]: query["text"] for query in queries}
    return Collection(
        documents=[(document["_id"], document.get("title", ""), document["text"]) for document in corpus],
        queries=[texts[query_id] for query_id in judged],
        judgements=list(judged.values()),
    )


def ndcg(ranking: Sequence[str], judgements: Mapping[str, int], depth: int) -> float:
    """As trec_eval's ndcg_cut: each gain divided by log2(rank + 1), over that of the best possible ranking."""
    ideal = sorted(judgements.values(), reverse=True)
    return _discounted([judgements.get(document, 0) for document in ranking[:depth]]) / _discounted(ideal[:depth])


def _discounted(gains: Sequence[int]) -> float:
    return float(sum(gain / np.log2(rank + 1) for rank, gain in enumerate(gains, start=1)))


def recall(ranking: Sequence[str], judgements: Mapping[str, int], depth: int) -> float:
    relevant = {document for document, relevance in judgements.items() if relevance > 0}
    return len(relevant.intersection(ranking[:depth])) / len(relevant)
