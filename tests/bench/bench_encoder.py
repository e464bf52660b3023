"""How fast texts become vectors: cold beside the machine's limit and a naive loop, then from the caches.

Run: ``python -m tests.bench.bench_encoder [--quick]``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from recstream.encoders.cached import CachedEncoder, open_cached_encoder
from recstream.encoders.disk_cache import LmdbVectorCache
from recstream.encoders.hashing import HashingEncoder
from recstream.encoders.transformers import TransformersEncoder
from tests.support.builders import encoder_spec

MFLOP_A_TOKEN = 21.2
"""MiniLM-L6: 6 layers of 4 products 384x384 and 2 of 384x1536, two operations a weight."""
WORDS = (
    "the a of and in to is film story about young woman man war love city space family secret murder "
    "detective friends journey world life past night house children island music school king lost dark"
).split()


def texts_of(n: int, seed: int = 0) -> list[str]:
    """Item-like texts: a title, and mostly a description, of very different lengths (median 40 words)."""
    rng = random.Random(seed)
    return [
        f"item {seed}-{i}: {' '.join(rng.choices(WORDS, k=min(180, 3 + int(rng.lognormvariate(3.6, 0.8)))))}"
        for i in range(n)
    ]


def rate(work: Callable[[], object], amount: float) -> float:
    """Amount a second of one run."""
    started = time.perf_counter()
    work()
    return amount / (time.perf_counter() - started)


def products(tokens: int, passes: int) -> Callable[[], None]:
    """The matrix products of MiniLM over ``tokens`` tokens and nothing else."""
    x, hidden = torch.randn(tokens, 384), torch.randn(tokens, 1536)
    square, up, down = torch.randn(384, 384), torch.randn(1536, 384), torch.randn(384, 1536)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(passes * 6):
                for _ in range(4):
                    torch.nn.functional.linear(x, square)
                torch.nn.functional.linear(x, up)
                torch.nn.functional.linear(hidden, down)

    return run


def measure(n: int, rounds: int, batch_tokens: int) -> dict[str, object]:
    """One interleaved measurement of all that is compared."""
    encoder = TransformersEncoder(encoder_spec(batch_tokens=batch_tokens))
    opening = rate(lambda: TransformersEncoder(encoder_spec()), 1)
    loading = rate(lambda: encoder.encode(["warm up"]), 1)
    cold_texts = texts_of(n)
    tokens = encoder.count_tokens(cold_texts)
    naive_texts = cold_texts[:: max(1, n // 20)]
    naive_tokens = encoder.count_tokens(naive_texts)
    warm_texts = texts_of(5_000, seed=1)
    results: dict[str, list[float]] = {
        name: [] for name in ("limit", "cold", "share", "naive", "lru", "lmdb", "lmdb_put")
    }
    passes = max(1, round(tokens / 2048 / 4))
    with tempfile.TemporaryDirectory() as folder:
        hashing = HashingEncoder(encoder_spec(backend="hashing"))
        lru = CachedEncoder(hashing, None, len(warm_texts))
        vectors = lru.encode(warm_texts)
        products(2048, 1)()
        for turn in range(rounds):
            before = rate(products(2048, passes), passes * 2048)
            cold = rate(lambda: encoder.encode(cold_texts), tokens)
            after = rate(products(2048, passes), passes * 2048)
            results["limit"].append((before + after) / 2)
            results["cold"].append(cold)
            results["share"].append(2 * cold / (before + after))
            results["naive"].append(rate(lambda: [encoder.encode([t]) for t in naive_texts], naive_tokens))
            results["lru"].append(rate(lambda: lru.encode(warm_texts), len(warm_texts)))
            disk = LmdbVectorCache(f"{folder}/{turn}", hashing.identity, hashing.dim, max_mb=1024)
            results["lmdb_put"].append(
                rate(lambda disk=disk: disk.put_many(warm_texts, vectors), len(warm_texts))  # type: ignore[misc]  # mypy cannot infer a default
            )
            disk.close()
            fresh = open_cached_encoder(
                encoder_spec(backend="hashing"), Path(folder, str(turn)), max_mb=1024, lru_size=100_000
            )
            fresh.encode(["opens the file"])
            results["lmdb"].append(rate(lambda fresh=fresh: fresh.encode(warm_texts), len(warm_texts)))  # type: ignore[misc]  # as above
            fresh.close()
    encoder.close()
    median = {name: statistics.median(values) for name, values in results.items()}
    return {
        "texts": n,
        "tokens": tokens,
        "batch_tokens": batch_tokens,
        "open_seconds": round(1 / opening, 3),
        "load_seconds": round(1 / loading, 3),
        "limit_gflops": round(median["limit"] * MFLOP_A_TOKEN / 1e3, 1),
        "limit_tokens_per_s": round(median["limit"]),
        "cold_tokens_per_s": round(median["cold"]),
        "cold_texts_per_s": round(median["cold"] * n / tokens, 1),
        "cold_share_of_limit": {
            "median": round(median["share"], 3),
            "best": round(max(results["share"]), 3),
            "worst": round(min(results["share"]), 3),
        },
        "naive_tokens_per_s": round(median["naive"]),
        "lru_texts_per_s": round(median["lru"]),
        "lmdb_texts_per_s": round(median["lmdb"]),
        "lmdb_put_texts_per_s": round(median["lmdb_put"]),
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--batch-tokens", type=int, default=encoder_spec().batch_tokens)
    chosen = parser.parse_args()
    figures = measure(*((30, 1) if chosen.quick else (240, 5)), batch_tokens=chosen.batch_tokens)
    machine = {
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "lmdb": version("lmdb"),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps({"bench": "encoder", **figures, **machine}))


if __name__ == "__main__":
    main()
