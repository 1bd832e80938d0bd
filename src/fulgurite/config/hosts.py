"""Names and addresses of this machine, under which a server may be asked. No torch."""

from __future__ import annotations

import ipaddress
import socket

EVERYWHERE = ("0.0.0.0", "::")
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def is_loopback(host: str) -> bool:
    """Returns whether a host is this machine alone, by its spelling: a name could have any address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def write_host(host: str) -> str:
    """Returns a host as in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def list_names(host: str) -> list[str]:
    """Returns the names under which a client may ask a server that listens on `host`."""
    if is_loopback(host):
        return list(dict.fromkeys([write_host(host), *LOOPBACK_NAMES]))
    if host not in EVERYWHERE:
        return [write_host(host)]
    import psutil

    names = [socket.gethostname(), socket.getfqdn()]
    for addresses in psutil.net_if_addrs().values():
        names += [write_host(found.address) for found in addresses
                  if found.family in (socket.AF_INET, socket.AF_INET6) and "%" not in found.address]
    return [*LOOPBACK_NAMES, *dict.fromkeys(names)]


def list_hosts(names: tuple[str, ...], port: int, scheme: str = "http") -> frozenset[str]:
    """Returns the values of the header Host for the names of a machine; a client leaves out the scheme's own port."""
    hosts = {f"{name.lower()}:{port}" for name in names}
    if port == (443 if scheme == "https" else 80):
        hosts |= {name.lower() for name in names}
    return frozenset(hosts)


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens on a port of a host. Raises OSError.

    Listening begins here, so that a client which is faster than the server waits.
    """
    # the name can mean ::1 as well, at which a client that was given 127.0.0.1 finds nobody
    bare = "127.0.0.1" if host == "localhost" else host.strip("[]")
    family, _, _, _, address = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address[:2], family=family, backlog=256)
