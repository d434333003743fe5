"""The grid of methods, places and seeds: `Snakefile` holds the rules, this package everything that is Python."""
