"""The cache: a few RESP commands over one connection."""

import asyncio

from .config import CONFIG


async def check():
    """Reaches the cache and uses it: PING, SET, GET."""
    if CONFIG.redis_host is None:
        raise ConnectionError("REDIS_HOST is not set")
    async with asyncio.timeout(CONFIG.limits.cache):
        reader, writer = await asyncio.open_connection(CONFIG.redis_host, CONFIG.redis_port)
        try:
            for command, wanted in [
                (("PING",), b"PONG"),
                (("SET", "startup:check", "ok", "EX", "60"), b"OK"),
                (("GET", "startup:check"), b"ok"),
            ]:
                answer = await _ask(reader, writer, command)
                if answer != wanted:
                    raise ConnectionError(f"{command[0]} was answered with {answer!r}")
        finally:
            writer.close()


async def _ask(reader, writer, command):
    words = [f"${len(word)}\r\n{word}\r\n" for word in command]
    writer.write(f"*{len(words)}\r\n{''.join(words)}".encode())
    await writer.drain()
    line = (await reader.readline()).rstrip(b"\r\n")
    if line.startswith(b"$"):
        return (await reader.readexactly(int(line[1:]) + 2))[:-2]
    return line[1:]
