"""Fulgurite: fine-tuning in which every knob explains itself."""

__version__ = "0.1.0"
