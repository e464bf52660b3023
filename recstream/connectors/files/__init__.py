"""Files: logs in (JSON lines, compressed or not, Parquet), lines out, resumable both ways."""
