"""`python -m livedex` is `livedex`."""

from livedex.cli import main

if __name__ == "__main__":
    main()
