"""``python -m fwlocal``."""

from fwlocal.cli import main

if __name__ == "__main__":
    main()
