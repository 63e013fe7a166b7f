"""An application that shares nothing with the one the defaults know: other phases, another log.

Stages: boot, settings, store, serve. FAIL_AT=<stage> makes one fail after STAGE_SECONDS, and the
process exits with 7. PORT and STATE_DIR come from the environment.
"""

import http.server
import os
import sqlite3
import sys
import time

STAGES = ["boot", "settings", "store", "serve"]


def log(level, text):
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    print(f"{stamp} {level:<5} shop: {text}", flush=True)


def store():
    path = os.path.join(os.environ["STATE_DIR"], "shop.sqlite")
    with sqlite3.connect(path) as database:
        database.execute("create table if not exists orders (id integer primary key)")
        database.execute("select count(*) from orders").fetchone()
    os.remove(path)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"ok":true}' if self.path == "/up" else b"not here"
        self.send_response(200 if self.path == "/up" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    seconds = float(os.environ.get("STAGE_SECONDS", "0.2"))
    for stage in STAGES:
        log("INFO", f"entering stage <{stage}>")
        began = time.monotonic()
        time.sleep(seconds)
        if os.environ.get("FAIL_AT") == stage:
            log("ERROR", f"stage <{stage}> gave up: timed out after {seconds:g} s")
            return 7
        if stage == "store":
            store()
        log("INFO", f"stage <{stage}> done in {time.monotonic() - began:.3f} seconds")
    server = http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
    log("INFO", "the shop is open")
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
