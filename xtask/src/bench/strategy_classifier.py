"""The strategy's classifier over a log export: decode, lower the case, look for words.

usage: strategy_classifier.py lines|array FILE
"""

import json
import sys

WORDS = [
    ("smd_phase3_timeout", all, ("phase 3", "timeout")),
    ("vpc_connector_capacity", any, ("vpc connector", "capacity")),
    ("cloud_sql_pool_exhaustion", any, ("connection pool", "pool exhaustion")),
    ("fastapi_lifespan_breakdown", all, ("lifespan", "startup")),
    ("container_exit_code_3", any, ("exit code 3", "container exit")),
    ("golden_path_offline", any, ("golden path", "pipeline offline")),
]


def category(entry):
    message = entry.get("textPayload") or entry.get("jsonPayload", {}).get("message", "")
    message = message.lower()
    for name, which, words in WORDS:
        if which(word in message for word in words):
            return name
    return None


def entries(shape, file):
    if shape == "array":
        yield from json.load(file)
    else:
        for line in file:
            yield json.loads(line)


def main(shape, path):
    counts = {}
    with open(path, encoding="utf-8") as file:
        for entry in entries(shape, file):
            name = category(entry)
            counts[name] = counts.get(name, 0) + 1
    print(json.dumps({str(name): count for name, count in counts.items()}))


main(*sys.argv[1:])
