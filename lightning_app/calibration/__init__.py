"""Label priors and temperatures: numbers alone, from probabilities and labels."""
