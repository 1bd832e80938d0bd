"""Evaluates runs and models: loss, preferences, answers, tasks of other libraries, and comparisons by people."""
