"""The command line: `xhat train`, `xhat predict`, `xhat explain`, `xhat info`.

One file is one command; `commands` lists them. A command that cannot do its work says why in one line:

========= =======================================================================
exit code meaning
========= =======================================================================
0         done
1         the data, a model, a file or the gradient check stood in the way
2         the command line is wrong
130       stopped by Ctrl-C; what was reached is saved
========= =======================================================================
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

# Imported at run time only, because they come with an extra that may be missing.
_EXTRA = {"typer", "rich", "matplotlib", "threadpoolctl"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one `xhat` command.

    Parameters
    ----------
    arguments : sequence of str, optional
        What stands after `xhat` on the command line. Default: that of this process.

    Returns
    -------
    int
        The exit code: 0 done, 1 refused, 2 wrong command line, 130 stopped by Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal shows ? where the text has R² or ×
    try:
        from xhat.cli.commands import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        print(f'xhat: expected the package {missing}, got none. Run: pip install "xhat[cli]"', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("xhat: stopped by Ctrl-C.", file=sys.stderr)
        return 130
