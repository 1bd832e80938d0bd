"""A search over knobs: their spaces, the study that remembers every trial, and what came of it."""
