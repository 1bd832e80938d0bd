"""Python imports this by itself from PYTHONPATH: the processes of the board then see so much free memory."""

import os

if free := os.environ.get("FULGURITE_TEST_FREE_MEMORY"):
    import psutil

    _measure = psutil.virtual_memory
    psutil.virtual_memory = lambda: _measure()._replace(available=int(free), total=2 * int(free))
