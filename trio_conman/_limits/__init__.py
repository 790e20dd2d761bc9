"""Who may start: slots and permits, and the queues for them."""
