"""Lets the tests here import the small run that they share, in this process and as a script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
