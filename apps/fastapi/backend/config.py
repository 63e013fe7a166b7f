"""What the application reads from its environment: the variables of the lab's own backend."""

import os
import re
from dataclasses import dataclass, field

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


def seconds(name, default):
    """A duration such as `75s` or `3750ms`."""
    text = os.environ.get(name)
    if not text:
        return float(default)
    match = re.fullmatch(r"([\d.]+)(us|ms|s|min|h)", text)
    if match is None:
        raise ValueError(f"{name}={text!r} is no duration")
    return float(match[1]) * UNITS[match[2]]


@dataclass(frozen=True)
class Limits:
    initialization: float = field(default_factory=lambda: seconds("LAB_LIMIT_INITIALIZATION", 75))
    table_setup: float = field(default_factory=lambda: seconds("LAB_LIMIT_TABLE_SETUP", 25))
    connection: float = field(default_factory=lambda: seconds("LAB_LIMIT_CONNECTION", 35))
    pool: float = field(default_factory=lambda: seconds("LAB_LIMIT_POOL", 45))
    health_check: float = field(default_factory=lambda: seconds("LAB_LIMIT_HEALTH_CHECK", 20))
    cache: float = field(default_factory=lambda: seconds("LAB_LIMIT_CACHE", 5))
    readiness: float = field(default_factory=lambda: seconds("LAB_LIMIT_READINESS", 2))


@dataclass(frozen=True)
class Config:
    environment: str = os.environ.get("ENVIRONMENT", "staging")
    port: str = os.environ.get("PORT", "8000")
    host: str = os.environ.get("POSTGRES_HOST", "127.0.0.1")
    postgres_port: int = int(os.environ.get("POSTGRES_PORT", "5432"))
    database: str = os.environ.get("POSTGRES_DB", "staging")
    user: str = os.environ.get("POSTGRES_USER", "app")
    password: str | None = field(default=os.environ.get("POSTGRES_PASSWORD") or None, repr=False)
    pool_size: int = int(os.environ.get("LAB_POOL_SIZE", "25"))
    recycle: float = field(default_factory=lambda: seconds("LAB_POOL_RECYCLE", 3600))
    redis_host: str | None = os.environ.get("REDIS_HOST") or None
    redis_port: int = int(os.environ.get("REDIS_PORT", "6379"))
    jwt_secret: str | None = field(default=os.environ.get("LAB_JWT_SECRET") or None, repr=False)
    heartbeat: float = field(default_factory=lambda: seconds("LAB_HEARTBEAT", 30))
    thinking: float = field(default_factory=lambda: seconds("LAB_THINKING", 5))
    limits: Limits = field(default_factory=Limits)
    # What is wrong with it.
    defect: str = os.environ.get("LAB_DEFECT", "")
    lazy_engine: bool = os.environ.get("LAB_ENGINE") == "lazy"
    swallow: bool = os.environ.get("LAB_LIFESPAN") == "swallow"


CONFIG = Config()
