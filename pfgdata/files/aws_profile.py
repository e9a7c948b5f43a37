"""The profile of `aws configure`, which obstore does not read itself: the rest of the chain it does.

What stands in the environment comes first, as for every tool of AWS.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["profile_settings"]

_OTHER_SOURCES = (  # of credentials, which go before the profile's
    *("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)
_KEYS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}


def profile_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What an S3 client takes from a profile's files: keys, region, endpoint; empty where there is none."""
    name = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    home = Path(environment.get("HOME") or Path.home()) / ".aws"
    config = _section(environment.get("AWS_CONFIG_FILE") or home / "config", name, f"profile {name}")
    keys = _section(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials", name)
    found = {}
    if not any(environment.get(one) for one in _OTHER_SOURCES):
        found = {ours: value for theirs, ours in _KEYS.items() if (value := {**config, **keys}.get(theirs))}
    if not (environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")) and "region" in config:
        found["region"] = config["region"]
    if not any(one.startswith("AWS_ENDPOINT") for one in environment) and "endpoint_url" in config:
        found["endpoint"] = config["endpoint_url"]
    return found


def _section(file: str | Path, *names: str) -> Mapping[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(Path(file).expanduser(), encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):  # whose own tools say what is wrong with it
        return {}
    return next((dict(parser[name]) for name in names if parser.has_section(name)), {})
