"""``python -m recstream.cli``: the same as the console script."""

from recstream.cli import main

if __name__ == "__main__":
    main()
