"""The address of the page; imports nothing heavy, so that one that cannot be used is named at once."""

import socket

from art_idguard.errors import IDGuardError


def check_address(host: str, port: int) -> None:
    """Find out at once whether a page can be served there.

    Raises:
        IDGuardError: it cannot.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that can be no host's
        raise IDGuardError(f"cannot serve on {host}:{port} ({error}); choose another --host or --port") from error


def in_brackets(host: str) -> str:
    """A host as it is in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
