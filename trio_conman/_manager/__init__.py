"""What users hold: the manager and its doors."""
