"""What a contract costs a search: the same queries with and without one, in turn, over one index.

    python benchmarks/contract.py [--chunks 10000] [--queries 1000]

Real prose, hashing embedder, hybrid search for the top 10, one client, without the query embedding (it is cached). The
contract is one that every document keeps, with every clause that each hit is judged by; `complete` counts the chunks of
each hit's document and stands in a line of its own, as do a contract that half of the documents violate, and one that
nine out of ten do. Each query is asked of all of them, one after the other in an order that is dealt out anew each
time. A ratio above 1.10 in the first line is more than a contract may cost. Beside it: how long `livedex contract
check` takes over the whole view.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from contextlib import AsyncExitStack

from stage import corpus, described, percentile, print_machine, stage

import livedex

KEPT = (
    "require: [category], section_types: [text, heading, list, table, code, quote, html, definitions, scope, "
    "exceptions, effective_dates, steps, faq], max_age: 36500d, max_staleness: 1d, min_characters: 1, "
    "min_score: {dense: -1}"
)
CONTRACTS = {
    "none": None,
    "kept": KEPT,
    "kept, complete": f"{KEPT}, complete: true",
    "half violate": f"document_types: {{category: [{', '.join(f'c{n}' for n in range(10))}]}}",
    "nine tenths violate": "document_types: {category: [c0, c1]}",
}
CHUNKS_PER_DOCUMENT = 16
WARM_UP = 30


async def measure(chunks: int, queries: int) -> None:
    rng = random.Random(5)
    documents = corpus(max(20, chunks // CHUNKS_PER_DOCUMENT))
    async with stage() as place, AsyncExitStack() as stack:
        place.fill(documents)
        plain = place.config.read_text()
        indexes = {}
        for number, (name, contract) in enumerate(CONTRACTS.items()):
            file = place.directory / f"livedex-{number}.yaml"
            clauses = "" if contract is None else f", contract: {{{contract}}}"
            file.write_text(plain.replace("shards: 1}", f"shards: 1{clauses}}}"))
            indexes[name] = await stack.enter_async_context(livedex.open(file, environ=place.environ))
            if contract is None:
                await indexes[name].sync()
        view = (await indexes["none"].status()).views[0]
        print(f"{view.chunks:,} chunks of {view.documents:,} documents")
        texts = [content for _, _, content in documents]
        times: dict[str, list[float]] = {name: [] for name in indexes}
        for asked in range(queries + WARM_UP):
            words = rng.choice(texts).split()
            start = rng.randrange(max(1, len(words) - 8))
            query = " ".join(words[start : start + 8]) or "livedex"
            for name in rng.sample(list(indexes), len(indexes)):
                await indexes[name].embed("handbook", query)
                started = time.perf_counter()
                await indexes[name].search("handbook", query)
                if asked >= WARM_UP:
                    times[name].append((time.perf_counter() - started) * 1000)
        report(times)
        started = time.perf_counter()
        checked = await indexes["kept, complete"].check_contract("handbook")
        took = time.perf_counter() - started
        print(f"  check: {checked.chunks:,} chunks in {took:.2f} s, {checked.chunks / took:,.0f} a second")


def report(times: dict[str, list[float]]) -> None:
    base = times["none"]
    for name, values in times.items():
        ratios = ", ".join(f"p{share * 100:g} × {percentile(values, share) / percentile(base, share):.3f}"
                           for share in (0.5, 0.99))  # fmt: skip
        print(f"  contract: {name}: {described(values)}" + ("" if name == "none" else f"; to none: {ratios}"))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, nargs="+", default=[10_000])
    parser.add_argument("--queries", type=int, default=1000)
    chosen = parser.parse_args()
    print_machine()
    for chunks in chosen.chunks:
        await measure(chunks, chosen.queries)


if __name__ == "__main__":
    asyncio.run(main())
