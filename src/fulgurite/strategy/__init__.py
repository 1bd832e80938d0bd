"""How several devices share the work of a run, and which of its processes this one is."""
