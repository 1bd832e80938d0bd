"""`python -m fulgurite`."""

import sys

from fulgurite.cli.main import main

sys.exit(main())
