"""Errors that end one of our own commands. Each carries the exit code it ends with."""

from __future__ import annotations


class UnstuckError(Exception):
    """Our own failure; the message is one line for the user."""

    exit_code = 1


class UsageError(UnstuckError):
    """Unusable input or arguments: the message names the input and says what to do."""

    exit_code = 2


class TraceError(UsageError):
    """A trace directory that is missing, damaged, or written by a newer version."""
