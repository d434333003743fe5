"""Which rows of the pool the student learns from."""
