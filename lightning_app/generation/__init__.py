"""An LLM's text: prompts as data, and what becomes of the answers."""
