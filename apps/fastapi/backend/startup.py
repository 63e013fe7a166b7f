"""The seven phases, in the observed application's words (generation E)."""

import asyncio
import time
import traceback

from . import cache
from .config import CONFIG
from .database import Database, migrate
from .log import logger

log = logger(__name__)

PHASES = ["INIT", "DEPENDENCIES", "DATABASE", "CACHE", "SERVICES", "WEBSOCKET", "FINALIZE"]
HEADINGS = [
    "Foundation",
    "Core Service Managers",
    "Database Setup with VPC Connector Capacity Awareness",
    "Redis Setup",
    "Chat Pipeline & Critical Services",
    "WebSocket Integration",
    "Validation & Optional Services",
]
RULE = "=" * 60
SHORTEST_SECRET = 32


class DeterministicStartupError(RuntimeError):
    """A phase failed, and nothing may go on."""


class Startup:
    """Runs the phases and knows how far they are."""

    def __init__(self):
        self.began = time.monotonic()
        self.phase = PHASES[0]
        self.took = {}
        self.state = "in progress"
        self.error = ""
        self.cache = False
        self.database = None
        self.agent_factory = None

    async def run(self):
        for line in [RULE, "DETERMINISTIC STARTUP SEQUENCE INITIATED", RULE]:
            log.info(line)
        for index, phase in enumerate(PHASES):
            began = time.monotonic()
            self._enter(index, phase)
            try:
                await getattr(self, f"_{phase.lower()}")()
            except Exception as error:
                self._fail(time.monotonic() - began, error)
                raise DeterministicStartupError(f"CRITICAL STARTUP FAILURE: {error}") from error
            self.took[phase] = time.monotonic() - began
        self._complete()

    def _enter(self, index, phase):
        # The completion of a phase is logged when the next begins.
        if self.took:
            log.info(f" PASS:  PHASE COMPLETED: {self.phase} ({self.took[self.phase]:.3f}s)")
        self.phase = phase
        log.info(f" CYCLE:  PHASE TRANSITION  ->  {phase}")
        log.info(f"   Started at: {time.time():.3f}s elapsed")
        log.info(f"PHASE {index + 1}: {phase} - {HEADINGS[index]}")

    def _complete(self):
        self.state = "complete"
        total = time.monotonic() - self.began
        log.info(f" PASS:  PHASE COMPLETED: {self.phase} ({self.took[self.phase]:.3f}s)")
        log.info(RULE)
        log.info("[U+1F680] DETERMINISTIC STARTUP SEQUENCE COMPLETED SUCCESSFULLY")
        log.info(f" PASS:  Total Time: {total:.3f}s")
        log.info(f" PASS:  Phases Completed: {len(self.took)}/{len(PHASES)}")
        log.info(" CHART:  PHASE TIMING BREAKDOWN:")
        for phase, took in self.took.items():
            log.info(f"   {phase:<12}: {took:.3f}s ({took / total:.1%})")
        log.info(RULE)

    def _fail(self, after, error):
        self.state, self.error = "failed", f"CRITICAL STARTUP FAILURE: {error}"
        timeout = " [TIMEOUT - Circuit: closed]" if "timeout" in str(error).lower() else ""
        done = [phase.lower() for phase in self.took]
        log.error(str(error))
        log.error(f" FAIL:  PHASE FAILED: {self.phase} - {error} (after {after:.2f}s){timeout}")
        log.error("[U+1F4A5] DETERMINISTIC STARTUP SEQUENCE FAILED")
        log.error(f" FAIL:  Failed at Phase: {self.phase}")
        log.error(f" FAIL:  Time Elapsed: {time.monotonic() - self.began:.3f}s")
        log.error(f" PASS:  Completed Phases: {done}")
        log.error(f" FAIL:  Failed Phases: {[self.phase.lower()]}")
        log.critical("[U+1F534] CRITICAL: CHAT FUNCTIONALITY IS BROKEN")
        log.error("".join(traceback.format_exception(error)))

    def _step(self, number, done):
        log.info(f"  [U+2713] Step {number}: {done}")

    async def _init(self):
        self._step(1, "Logging initialized")
        log.info("Environment validation - Critical variables status:")
        log.info(f"  ENVIRONMENT: {CONFIG.environment}")
        log.info(f"  JWT_SECRET_KEY: {'SET' if CONFIG.jwt_secret else 'MISSING'}")
        log.info(f"  POSTGRES_HOST: {CONFIG.host}")
        if CONFIG.password is None:
            raise ValueError("Missing required environment variable: POSTGRES_PASSWORD must be set")
        self._step(2, "Environment validated")

    async def _dependencies(self):
        if CONFIG.jwt_secret is not None and len(CONFIG.jwt_secret) < SHORTEST_SECRET:
            raise ValueError(
                "JWT secret validation failed: JWT_SECRET_KEY must be at least "
                f"{SHORTEST_SECRET} characters, not {len(CONFIG.jwt_secret)}"
            )
        self._step(3, "Key manager initialized")

    async def _database(self):
        if CONFIG.lazy_engine:
            await migrate()
        database = Database()
        try:
            if not CONFIG.lazy_engine:
                await asyncio.wait_for(database.fill(), CONFIG.limits.initialization)
                self._step(4, f"Database connection pool of {CONFIG.pool_size} opened")
            tables = await asyncio.wait_for(database.tables(), CONFIG.limits.table_setup)
        except asyncio.TimeoutError as error:
            # Names the initialization limit whichever fired, as the observed application does.
            raise TimeoutError(
                f"Database initialization timeout after {CONFIG.limits.initialization:.1f}s in "
                f"{CONFIG.environment} environment. This may indicate Cloud SQL connection issues. "
                "Check POSTGRES_HOST configuration and Cloud SQL instance accessibility."
            ) from error
        except Exception as error:
            raise RuntimeError(
                "Phase 3 database setup failed - deterministic startup requires functional "
                f"database: {error}"
            ) from error
        self._step(5, f"Database tables verified ({tables} tables)")
        self.database = database

    async def _cache(self):
        try:
            await cache.check()
        except OSError as error:
            log.warning(f"Redis connection failed: {type(error).__name__}: {error}")
            log.warning(
                f"Redis unavailable in {CONFIG.environment} - graceful degradation, continuing "
                "without cache"
            )
            return
        self.cache = True
        self._step(6, "Redis connected")

    async def _services(self):
        users = await self.database.count("users")
        self._step(7, f"User service initialized ({users} users)")
        if CONFIG.defect == "services":
            # The factory is made by a later phase: a real call on nothing.
            self.agent_factory.create_execution_engine()
        self._step(8, "Agent supervisor initialized")

    async def _websocket(self):
        # The example of RFC 6455: whoever computes it wrongly lets no client in.
        from websockets.utils import accept_key

        if accept_key("dGhlIHNhbXBsZSBub25jZQ==") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=":
            raise RuntimeError("WebSocket handshake self-test failed")
        self._step(9, "WebSocket handshake verified")

    async def _finalize(self):
        await asyncio.wait_for(self.database.count("runs"), CONFIG.limits.health_check)
        self._step(10, "Health endpoints verified")
