#!/bin/sh
# The container's command: start.sh gunicorn (with one uvicorn worker) or start.sh uvicorn.
# PYTHON is the interpreter that has requirements.txt, PORT where to listen.
cd "$(dirname "$0")" || exit 1
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
if [ "${1:-gunicorn}" = uvicorn ]; then
    exec "${PYTHON:-python3}" -m uvicorn backend.main:app --host 127.0.0.1 --port "${PORT:-8000}"
fi
exec "${PYTHON:-python3}" -m gunicorn backend.main:app -w 1 -k uvicorn.workers.UvicornWorker \
    --bind "127.0.0.1:${PORT:-8000}" --timeout 300
