"""Range tests: how a run answers to a knob, before it is set."""
