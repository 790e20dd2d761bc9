"""Who runs when: workers, attempts, maps, and the block around them."""
