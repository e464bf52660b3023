"""Lists of users who are away, made again because items and trends moved."""
