"""An address to listen at. Apart from the doors, so that a server which needs only this starts at once."""

from __future__ import annotations

import socket

from penstock.errors import DoorError

__all__ = ["listen"]


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        DoorError: the address is in use.
    """
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
        )
    except OSError as error:
        raise DoorError(
            f"the address {host}:{port} is free", found=str(error), remedy="choose another --port, or stop what has it"
        ) from error
