"""`simshard` as a command of this Python."""

import sys

PROGRAM = "from simshard.cli.main import main; main()"


def command(*arguments):
    """The command line of `simshard` with these arguments."""
    return [sys.executable, "-c", PROGRAM, *map(str, arguments)]
