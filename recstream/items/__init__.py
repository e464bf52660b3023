"""The catalogue of items, their statistics, and the indexes that lists are made from."""
