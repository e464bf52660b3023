"""Adapters to the world (Kafka, files, LanceDB, encoders, cache): they decide *how*, and nothing else."""
