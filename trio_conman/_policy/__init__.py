"""What decides whether and when to try again; pure, without trio."""
