"""Loads the options: the rules ask what a stage declares."""

from fulgurite.config.run import load_options

load_options()
