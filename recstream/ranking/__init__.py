"""A list: candidates, their features, a model over them, and the explanation of each place."""
