"""`/ws`: who is let in, and what is said."""

import asyncio
import base64
import hashlib
import hmac
import json
import time

from fastapi import WebSocket, WebSocketDisconnect

from .config import CONFIG
from .log import logger

log = logger(__name__)

AUDIENCE = "lab.shakedown.test"
PLAIN = ["jwt-auth", "jwt", "bearer", "e2e-testing", "staging-auth", "agent_chat"]
WITH_TOKEN = ["jwt.", "jwt-auth.", "bearer."]
EVENTS = ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed"]
USER_MESSAGES = ["user_message", "chat", "agent_request", "start_agent"]


def _decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verify(token):
    """The claims of an HS256 access token of ours."""
    try:
        signed, signature = token.rsplit(".", 1)
        header, payload = signed.split(".")
        expected = hmac.new(CONFIG.jwt_secret.encode(), signed.encode(), hashlib.sha256).digest()
        if json.loads(_decode(header)).get("alg") != "HS256":
            raise ValueError("The specified alg value is not allowed")
        if not hmac.compare_digest(_decode(signature), expected):
            raise PermissionError("Signature verification failed")
        claims = json.loads(_decode(payload))
    except PermissionError:
        raise
    except Exception as error:
        raise ValueError("Not enough segments") from error
    if claims["exp"] <= time.time():
        raise ValueError("Signature has expired")
    if claims["aud"] != AUDIENCE:
        raise ValueError("Invalid JWT audience")
    return claims


def _token(socket, offered):
    authorization = socket.headers.get("authorization", "")
    if authorization.startswith("Bearer "):
        return authorization[7:].strip()
    for prefix in WITH_TOKEN:
        for name in offered:
            if name.startswith(prefix):
                inside = name[len(prefix) :]
                return inside if "." in inside else _decode(inside).decode()
    return None


async def serve(socket: WebSocket):
    """Before it is accepted, a refusal is HTTP 403, whatever its close code."""
    offered = socket.scope.get("subprotocols", [])
    agreed = next((name for name in offered if name in PLAIN), None)
    agreed = agreed or next((name for name in offered if name.startswith(tuple(WITH_TOKEN))), None)
    token = _token(socket, offered)
    try:
        if token is None:
            raise ValueError("No JWT token")
        claims = verify(token)
    except PermissionError as error:
        log.error(f"JWT token verification failed - likely JWT secret mismatch between services: {error}")
        return await socket.close(1008)
    except ValueError as error:
        log.error(f"WebSocket connection rejected in {CONFIG.environment}: {error}")
        return await socket.close(1008)
    await socket.accept(subprotocol=agreed)
    log.info("WebSocket connection established")
    try:
        await _talk(socket, claims)
    except WebSocketDisconnect:
        pass


async def _talk(socket, claims):
    await socket.send_json(
        {
            "type": "connection_established",
            "user_id": claims["sub"],
            "golden_path_events": EVENTS,
            "heartbeat_interval_ms": int(CONFIG.heartbeat * 1000),
        }
    )
    while True:
        try:
            message = json.loads(await socket.receive_text())
        except json.JSONDecodeError:
            await socket.send_json({"type": "error", "code": "INVALID_JSON"})
            continue
        asked = message.get("text") or message.get("content") or ""
        if message.get("type") == "ping":
            await socket.send_json({"type": "pong"})
        elif message.get("type") in USER_MESSAGES and asked.strip():
            await _run(socket, claims, message.get("thread_id"), asked)
        else:
            await socket.send_json({"type": "error", "code": "UNKNOWN_TYPE"})


async def _run(socket, claims, thread, asked):
    answer = f"You, {claims['sub']}, said {len(asked.split())} words."
    said = [{"type": event} for event in EVENTS] + [{"type": "agent_response", "text": answer}]
    for event in said:
        await asyncio.sleep(CONFIG.thinking / len(said))
        await socket.send_json(event | {"agent_name": "supervisor", "thread_id": thread})
