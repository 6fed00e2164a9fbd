"""``python -m dataprune``: the command line."""

from dataprune.cli import main

if __name__ == "__main__":
    main()
