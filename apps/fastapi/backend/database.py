"""The pool, through the folder of a Unix socket or a host."""

import asyncio
import re

import asyncpg

from .config import CONFIG
from .log import logger

log = logger(__name__)

TABLES = ["users", "threads", "messages", "runs"]
AGAIN_AFTER = 0.2
LOCK_SHARE = 0.3
# Opened at the start; the pool grows to its size when it is used.
OPENED = 5

# What passes when one tries again: nobody answered, or closed while it was asked.
TRANSIENT = (
    asyncio.TimeoutError,
    ConnectionError,
    asyncpg.ConnectionDoesNotExistError,
)


def _address():
    return {
        "host": CONFIG.host,
        "port": CONFIG.postgres_port,
        "user": CONFIG.user,
        "password": CONFIG.password,
        "database": CONFIG.database,
        "timeout": CONFIG.limits.connection,
        "server_settings": {"application_name": "netra-backend"},
    }


class Database:
    """A pool that is opened by `fill`, or by its first use."""

    def __init__(self):
        self.pool = asyncpg.create_pool(
            min_size=0 if CONFIG.lazy_engine else min(OPENED, CONFIG.pool_size),
            max_size=CONFIG.pool_size,
            max_inactive_connection_lifetime=CONFIG.recycle,
            **_address(),
        )

    async def fill(self):
        """Opens all connections, again and again while the error may pass."""
        while True:
            try:
                await self.pool
                return
            except TRANSIENT as error:
                log.debug("again: %r", error)
                self.pool.terminate()
                self.__init__()
            await asyncio.sleep(AGAIN_AFTER)

    async def tables(self):
        """Reads a row of every table."""
        lock = int(CONFIG.limits.table_setup * LOCK_SHARE * 1000)
        while True:
            try:
                await self.pool
                async with self.pool.acquire(timeout=CONFIG.limits.pool) as connection:
                    await connection.execute(f"set lock_timeout = {lock}")
                    for table in TABLES:
                        await connection.execute(f"select 1 from {table} limit 1")
                return len(TABLES)
            except TRANSIENT as error:
                log.debug("again: %r", error)
            await asyncio.sleep(AGAIN_AFTER)

    async def count(self, table):
        """How many rows `table` has."""
        if not re.fullmatch(r"[a-z]+", table):
            raise ValueError(table)
        async with self.pool.acquire(timeout=CONFIG.limits.pool) as connection:
            return await connection.fetchval(f"select count(*) from {table}")

    async def answers(self):
        """Whether it answers within the readiness limit."""
        async with asyncio.timeout(CONFIG.limits.readiness):
            async with self.pool.acquire() as connection:
                return await connection.fetchval("select 1")


async def migrate():
    """Looks at the schema over one connection without a limit; what fails is passed over."""
    try:
        connection = await asyncpg.connect(**_address() | {"timeout": 3600})
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        log.error("Failed to run migrations: %s: %s", type(error).__name__, error)
        log.warning("Continuing without migrations")
        return
    try:
        await connection.fetchval("select count(*) from pg_catalog.pg_tables where schemaname = 'public'")
        log.info("Migrations are up to date")
    finally:
        await connection.close()
