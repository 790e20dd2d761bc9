"""What belongs to the leaves and is not for users."""
