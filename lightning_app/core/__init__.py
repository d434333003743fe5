"""What everything else stands on: the task, errors, paths, hashes, artifacts and runs. Needs no torch."""
