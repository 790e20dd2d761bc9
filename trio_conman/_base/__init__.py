"""What everything else may stand on: outcomes, errors, checks, texts."""

from . import starting

starting.guard()  # before all else is imported
