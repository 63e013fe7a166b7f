"""The application's log: JSON on Cloud Run, text elsewhere. What the servers write is their own."""

import json
import logging
import os
import sys
import time
import traceback
from datetime import datetime, timezone


class CloudRun(logging.Formatter):
    """One JSON object a line, as Cloud Logging reads it from a container."""

    def format(self, record):
        stamp = datetime.fromtimestamp(record.created, timezone.utc)
        entry = {
            "severity": record.levelname,
            "message": record.getMessage(),
            "timestamp": stamp.isoformat(timespec="microseconds"),
            "labels": {
                "module": record.name,
                "function": record.funcName,
                "line": str(record.lineno),
            },
        }
        if record.exc_info:
            kind, value, _ = record.exc_info
            entry["error"] = {
                "type": kind.__name__,
                "value": str(value),
                "traceback": "".join(traceback.format_exception(*record.exc_info)),
            }
        return json.dumps(entry)


class Text(logging.Formatter):
    """`2025-09-16 00:41:13.120 | ERROR    | module:function:line | message`."""

    converter = time.gmtime
    default_msec_format = "%s.%03d"

    def __init__(self):
        super().__init__("%(asctime)s | %(levelname)-8s | %(name)s:%(funcName)s:%(lineno)d | %(message)s")


def logger(name):
    """The logger of a module."""
    return logging.getLogger(name)


def set_up():
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(CloudRun() if "K_SERVICE" in os.environ else Text())
    own = logging.getLogger("backend")
    own.handlers = [handler]
    own.setLevel(logging.INFO)
    own.propagate = False
