"""The names that other trainers have for parameters of ours, each with its owner and what to write here.

One file holds the names of one owner, or of a few. `table` finds a name; `settings` turns a name with its value into
words of the command line.
"""
