"""What all commands share: one error message for bad input, exit codes, and overrides after ``--``."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence

from bench.cli.exits import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, EXIT_INTERNAL, EXIT_INTERRUPTED


def run_command(command: Callable[[], int]) -> int:
    """Call a command and return its exit code. Errors are printed.

    Args:
        command: the command. It raises ``ValueError`` with one sentence for bad input, and ``OSError`` for a file
            that cannot be read or written.

    Returns:
        The command's own code. 2 after one of these errors. 130 if interrupted. 141 if the reader of the output ended
        early (``| head``). 1 for any other exception, which is a bug of this project.
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
    except OSError as error:  # the user can correct it: a path that does not exist, a full disk
        print(f"error: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        traceback.print_exc()
        name = type(error).__name__
        print(f"internal error: {name}: {error}. Please report it with the traceback above", file=sys.stderr)
        return EXIT_INTERNAL
    return code


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments at ``--`` into those of the command and overrides of ``bench/run.py``."""
    own = list(arguments)
    end = own.index("--") if "--" in own else len(own)
    return own[:end], own[end + 1 :]


def discard_output() -> None:
    """Redirect output to the null device. Otherwise the last flush of the interpreter reports the closed pipe again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
