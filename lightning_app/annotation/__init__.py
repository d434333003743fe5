"""Labels by people: blind sheets for a sample of a selection, and what they say of its labels."""
