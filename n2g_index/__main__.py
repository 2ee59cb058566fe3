"""`python -m n2g_index` is the `n2g-index` command."""

from n2g_index.cli.main import main

if __name__ == "__main__":
    main()
