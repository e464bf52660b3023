"""Kafka: source with exact positions, confirmed sink, what an operator asks of a cluster, embedded broker."""
