"""Training dynamics: how they are stored, what they say about each row, and the data map."""
