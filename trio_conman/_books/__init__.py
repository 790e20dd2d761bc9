"""What is recorded of tasks, and who is told."""
