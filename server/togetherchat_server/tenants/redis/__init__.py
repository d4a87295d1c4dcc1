"""What replicas count together, through a Redis that they share."""
