"""The catalogue, and what is known of items across users."""
