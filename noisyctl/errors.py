"""Errors that a user can act on: each message says what is wrong, where, and the cure.

Anything else that is raised is a defect of noisyctl: the command line writes its traceback to a file that it names.
"""

import difflib
from collections.abc import Collection, Iterable
from typing import Any

NAMED = 5  # of many, that a message names


class NoisyctlError(Exception):
    """What a user can act on. The command line prints it as one line and exits with `exit_code`."""

    exit_code = 1


class ParamsError(NoisyctlError):
    """A parameter is unknown, missing, of the wrong type or out of its range."""

    exit_code = 2


class OutputError(NoisyctlError):
    """An output would take the place of something that noisyctl did not write, or that the command reads."""

    exit_code = 2


class ArtifactError(NoisyctlError):
    """An artifact is missing, damaged, foreign or of another version."""


class DataError(NoisyctlError):
    """The user's images, labels or features cannot be used as they are."""


class TrainingError(NoisyctlError):
    """A run cannot go on: a loss that is not finite, a checkpoint of other params, a second process."""


def suggest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` or the list of what there is."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"one of: {', '.join(names) or 'none'}"


def few(items: Iterable[Any]) -> str:
    """The first items, and how many more there are."""
    texts = [repr(item) if isinstance(item, str) else str(item) for item in items]
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more


def wrong_key(found: Iterable[str], known: Collection[str], optional: Collection[str] = ()) -> str:
    """What is wrong with the keys of a mapping that was read: one is unknown, or one is missing; empty where nothing is."""
    names = list(found)
    for name in names:
        if name not in known and name not in optional:
            return f"{name!r} is not a key here; {suggest(name, [*known, *optional])}"
    return next((f"{name!r} is missing" for name in known if name not in names), "")
