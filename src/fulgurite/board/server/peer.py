"""Which user of this machine is at the other end of a connection."""

# psutil lists connections with their processes, but only those of the own user.

from __future__ import annotations

import socket
from pathlib import Path

TABLES = {socket.AF_INET: Path("/proc/net/tcp"), socket.AF_INET6: Path("/proc/net/tcp6")}
"""Linux's tables of connections; other systems have none."""
ESTABLISHED = "01"


def find_user(client: tuple[str, int] | None, port: int) -> int | None:
    """Returns the number of the user whose process has connected from `client` to a port of this machine.

    Returns nothing if the system does not tell, or if the connection comes from another machine or container.
    """
    if client is None:
        return None
    family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
    try:
        address = write_address(family, client[0])
        lines = TABLES[family].read_text(encoding="ascii").splitlines()[1:]
    except (OSError, ValueError):
        return None
    for line in lines:
        fields = line.split()
        if (fields[1], fields[3]) == (f"{address}:{client[1]:04X}", ESTABLISHED) and fields[2].endswith(f":{port:04X}"):
            return int(fields[7])
    return None


def write_address(family: socket.AddressFamily, host: str) -> str:
    """Returns an address as the tables have it: hexadecimal, each four bytes in the order of the processor."""
    packed = socket.inet_pton(family, host)
    words = [int.from_bytes(packed[n : n + 4], "little") for n in range(0, len(packed), 4)]
    return "".join(f"{word:08X}" for word in words)
