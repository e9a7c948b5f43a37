"""How this process comes into a Ray cluster: the one on this machine, a new one, or one by its address."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
from pathlib import Path
from typing import Any

from pfgdata.errors import ClusterError

__all__ = ["joined", "require_address"]

_QUIET = {  # read when ray is imported: it prints on stdout, where results go
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_REACH = 10.0  # seconds for a head to answer at all: ray itself tries for two minutes


def require_address(address: str) -> None:
    """Raise ClusterError unless it can be one."""
    if address != "auto" and not re.fullmatch(r"[^:/\s]+:\d{1,5}", address):
        raise ClusterError(f"--cluster {address}: write auto, or HOST:PORT as ray start says it")


def joined(address: str) -> Any:
    """Ray, connected to the cluster at `address`; nothing of it is printed.

    Raises ClusterError where it is not installed, or the cluster cannot be joined.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    with_token = "RAY_AUTH_TOKEN" in os.environ or (Path.home() / ".ray" / "auth_token").exists()
    if address != "auto" and with_token:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # else it is not read for an explicit address
    try:
        import ray
    except ImportError:
        raise ClusterError(
            "--cluster needs Ray, which is not installed: pip install 'pfg[cluster]'"
        ) from None
    before = signal.getsignal(signal.SIGTERM)
    try:
        _connect(ray, address)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # ray puts its own there, which ends the process
    return ray


def _connect(ray: Any, address: str) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)  # else it tells of tokens
    how = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": False}
    if ray.is_initialized():
        raise ClusterError("this process uses Ray already; run pfgdata in one of its own")
    if address == "auto":
        try:
            try:
                ray.init(address="auto", **how)
            except ConnectionError:  # none runs here
                ray.init(include_dashboard=False, **how)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as problem:
            raise ClusterError(f"--cluster auto: Ray did not start here ({_one_line(problem)})") from problem
        return
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_REACH).close()
    except (OSError, OverflowError) as problem:
        raise ClusterError(f"--cluster {address}: nothing answers there ({problem})") from problem
    try:
        ray.init(address=address, **how)
    except (OSError, RuntimeError, ValueError, SystemExit, ray.exceptions.RayError) as problem:
        said = _one_line(problem)
        raise ClusterError(
            f"--cluster {address}: could not be joined ({said}); it must be of the same Ray"
            f" ({ray.__version__}) and Python, and its token here (RAY_AUTH_TOKEN, or ~/.ray/auth_token)"
        ) from None


def _one_line(problem: BaseException) -> str:
    """The beginning of an error's text."""
    return " ".join(str(problem).split())[:200]
