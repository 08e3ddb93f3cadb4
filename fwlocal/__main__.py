"""The program's beginning: ``fwlocal``, and ``python -m fwlocal``.

Ctrl-C while modules are still being imported ends it as at any later moment.
"""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line."""
    try:
        from fwlocal.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
