"""API keys: where they are read, how they are sent, and where a server can be reached from without one."""

from __future__ import annotations

import ipaddress

API_KEY_VARIABLE = "SIMSHARD_API_KEY"
ADMIN_KEY_VARIABLE = "SIMSHARD_ADMIN_KEY"
HOST_VARIABLE = "SIMSHARD_FRONT_END_HOST"  # where front ends listen, if not where Ray Serve is told


def bearer(api_key: str | None) -> dict[str, str]:
    """The headers that a request to a server with this API key needs."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or host name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
