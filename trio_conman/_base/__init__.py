"""What everything else may stand on: outcomes, errors, checks, texts."""
