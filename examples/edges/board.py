"""An outside process under supervision: it reports its position by HTTP, and shows the last summary on SIGHUP."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from types import FrameType

reloads: list[int] = []


def reload(number: int, frame: FrameType | None) -> None:
    reloads.append(number)
    print("reloaded", len(reloads), flush=True)


def report() -> None:
    request = urllib.request.Request(
        os.environ["PENSTOCK_REPORT_URL"],
        json.dumps({"offset": len(reloads)}).encode(),
        {"Authorization": f"Bearer {os.environ['PENSTOCK_REPORT_TOKEN']}"},
    )
    urllib.request.urlopen(request, timeout=5).close()


signal.signal(signal.SIGHUP, reload)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("the board is up", flush=True)
while True:
    report()
    time.sleep(0.2)
