"""How a command begins and ends: whose the arguments are, one sentence for bad input, and a meaningful exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence

from bench.cli.exits import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, EXIT_INTERNAL, EXIT_INTERRUPTED


def run_command(command: Callable[[], int]) -> int:
    """The exit code of a command.

    Args:
        command: does the work; a ``ValueError`` of it is the user's mistake in one sentence, and an
            ``OSError`` names a file that cannot be read or written.

    Returns:
        What it returned; 2 for either; 130 if interrupted; 141 if who read its output went away (``| head``); 1,
        never a verdict, for a mistake of ours.
    """
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        return EXIT_BROKEN_PIPE
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:  # a path that is not there, a full disk: the user's to mend
        print(f"error: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        traceback.print_exc()
        print(f"internal error: {type(error).__name__}: {error}; please report it with all of this", file=sys.stderr)
        return EXIT_INTERNAL
    return code


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command's own arguments, and what stands behind ``--``: overrides of ``bench/run.py``."""
    own = list(arguments)
    place = own.index("--") if "--" in own else len(own)
    return own[:place], own[place + 1 :]


def discard_output() -> None:
    """Let the interpreter's last flush go nowhere: it would complain of the closed pipe once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
