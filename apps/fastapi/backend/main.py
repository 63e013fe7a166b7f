"""The application: its lifespan runs the start-up, its routes answer from what came of it."""

import os
import signal
import threading
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse

from . import log as logs
from . import websocket
from .config import CONFIG
from .startup import Startup

logs.set_up()
log = logs.logger(__name__)


def _ends_with_input():
    """A lab that is killed leaves nothing behind: its end of our standard input closes."""
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


if os.environ.get("LAB_ENDS_WITH_INPUT"):
    threading.Thread(target=_ends_with_input, daemon=True).start()

log.info(f"Backend Service: Running in {CONFIG.environment} - skipping .env file loading (using GSM)")
log.info("Built database URL from POSTGRES_* environment variables")
if CONFIG.defect == "import":
    from .services import monitoring  # noqa: F401  the image has no such module


@asynccontextmanager
async def lifespan(app):
    app.state.startup = startup = Startup()
    try:
        await startup.run()
    except Exception as error:
        if not CONFIG.swallow:
            raise
        log.error(f"Startup failed in lifespan manager: {error}")
    yield
    if startup.database is not None:
        startup.database.pool.terminate()


app = FastAPI(lifespan=lifespan)


def _basic(status="healthy"):
    return {"status": status, "service": "backend-service", "environment": CONFIG.environment}


def _held_up(startup):
    """What a health check says because the start-up is not complete."""
    if startup.state == "complete":
        return None
    message = f"Startup failed: {startup.error}"
    return {"status": "unhealthy", "message": message, "startup_failed": True}


async def _database(startup):
    """Why the database does not answer; `None` when it does."""
    if startup.database is None:
        return "there is no pool"
    try:
        await startup.database.answers()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


@app.get("/")
async def root():
    return {"service": "backend"}


@app.api_route("/health", methods=["GET", "HEAD", "OPTIONS"])
@app.api_route("/health/", methods=["GET", "HEAD", "OPTIONS"], include_in_schema=False)
async def health(request: Request):
    held_up = _held_up(request.app.state.startup)
    return JSONResponse(held_up or _basic(), 503 if held_up else 200)


@app.get("/health/live")
async def live():
    return _basic()


@app.get("/health/ready")
async def ready(request: Request):
    startup = request.app.state.startup
    if held_up := _held_up(startup):
        return JSONResponse(held_up | {"message": f"{held_up['message']} - not ready"}, 503)
    if error := await _database(startup):
        log.error(f"Core database unavailable: {error}")
        return JSONResponse({"detail": "Core database unavailable"}, 503)
    redis = "connected" if startup.cache else "skipped_optional"
    return _basic("ready") | {"core_db": "connected", "redis_db": redis, "details": {}}


@app.get("/health/startup")
async def started(request: Request):
    startup = request.app.state.startup
    checks = {
        "database": await _database(startup) is None,
        "redis": startup.cache,
        "websocket": startup.state == "complete",
    }
    is_ready = startup.state == "complete" and checks["database"]
    words = {name: {"status": "ready" if good else "not_ready"} for name, good in checks.items()}
    body = {"status": "ready" if is_ready else "not_ready", "checks": words, "version": "1.0.0"}
    return JSONResponse(body, 200 if is_ready else 503)


@app.get("/health/backend")
async def capabilities(request: Request):
    startup = request.app.state.startup
    complete = startup.state == "complete"
    database = await _database(startup) is None
    body = _basic("healthy" if complete and database else "degraded")
    return body | {
        "capabilities": {
            "agent_execution": complete,
            "websocket_integration": complete and CONFIG.jwt_secret is not None,
            "database_connectivity": database,
        },
        "degraded_services": [] if startup.cache else [{"service": "redis", "mode": "degraded"}],
        "golden_path_ready": complete and database,
    }


@app.get("/api/threads")
async def threads(request: Request):
    startup = request.app.state.startup
    if _held_up(startup):
        return JSONResponse({"detail": "Service Unavailable"}, 503)
    return {"total": await startup.database.count("threads")}


@app.websocket("/ws")
async def ws(socket: WebSocket):
    if _held_up(socket.app.state.startup) or CONFIG.jwt_secret is None:
        await socket.accept()
        return await socket.close(1011, "Service not ready")
    await websocket.serve(socket)
