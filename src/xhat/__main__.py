"""`python -m xhat` is the command `xhat`."""

import sys

from xhat.cli import main

if __name__ == "__main__":
    sys.exit(main())
