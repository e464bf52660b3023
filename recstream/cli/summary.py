"""What a run did, for people: a few lines that add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from recstream.metrics.accounting import accounting, quantile

__all__ = ["print_summary"]


def print_summary(console: Console, summary: Mapping[str, Any]) -> None:
    """Print the account of a run, its lists, rejects by reason, and what the encoder did."""
    console.print(f"events   {accounting(summary)}")
    lists = summary.get("lists_emitted", {})
    told = ", ".join(f"{int(count):,} by {trigger}" for trigger, count in sorted(lists.items()))
    console.print(f"lists    {told or 'none'}")
    latency = summary.get("event_to_list_seconds", {})
    if latency.get("count"):
        p50, p99 = quantile(latency, 0.5), quantile(latency, 0.99)
        if p50 is not None and p99 is not None:
            console.print(f"latency  event read -> list made: p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms")
    items = int(summary.get("records_read", {}).get("items", 0))
    if items:
        console.print(f"items    {items:,} read, {int(summary.get('catalogue_items', 0)):,} in the catalogue")
    texts = summary.get("encoder_texts", {})
    encoded = int(texts.get("encoded", 0))
    cached = int(sum(texts.values())) - encoded
    if encoded or cached:
        new = f"{encoded:,} encoded" if encoded else "nothing new to encode"
        console.print(f"texts    {new}, {cached:,} from the cache")
    rejected = summary.get("records_rejected", {})
    if rejected:
        told = ", ".join(f"{reason} {int(count):,}" for reason, count in sorted(rejected.items()))
        console.print(f"rejected {told}")
