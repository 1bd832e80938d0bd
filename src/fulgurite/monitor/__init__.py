"""Rules that watch a run while it trains: each finding is reported once, with its remedy,
at the first step that shows it.

`rules/` has the rules, pure functions of the numbers in `history.py`; `thresholds.py` their
limits; `callback.py` calls them.
"""
