"""What is wrong with a run, said once, in one sentence with the remedy, at the first step where it is known.

`config.py` lists the rules, `limits.py` their thresholds; a rule is a function of numbers in `rules/`; `ears.py`
feeds them.
"""
