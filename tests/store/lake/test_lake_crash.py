from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from penstock.clock import WallClock
from penstock.store.lake import Lake
from penstock.testing import faults

WRITER = """
import os, sys
import pyarrow as pa
from penstock.clock import WallClock
from penstock.store.lake import Lake
done = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
lake = Lake.open(sys.argv[1], clock=WallClock())
lake.create_table("t", pa.schema([("n", pa.int64())]))
for i in range(8):
    lake.append("t", pa.table({"n": [i] * 1000}), app_id="a", version=i)
    os.write(done, b"%d\\n" % i)
"""


def test_a_power_cut_loses_no_acknowledged_commit(tmp_path: Path) -> None:
    """Where an image lost a commit that nobody acknowledged, the same append makes it whole again."""
    recorder, root, rng = faults.build_recorder(tmp_path), tmp_path / "disk", random.Random(5)
    root.mkdir()
    environment = faults.recorded_environment(recorder, root, tmp_path / "journal")
    command = [sys.executable, "-c", WRITER, str(root / "lake"), str(root / "done")]
    subprocess.run(command, env=environment, check=True)
    recording = faults.Recording.read(tmp_path / "journal", root)
    acknowledging = [i + 1 for i, event in enumerate(recording.events) if event.path.endswith("done") and event.data]
    assert len(acknowledging) == 8
    for number, at in enumerate(rng.sample(acknowledging, 4)):
        image = tmp_path / f"image-{number}"
        recording.image(at, image, rng)
        n = len(recording.written(root / "done", at).split())
        lake = Lake.open(image / "lake", clock=WallClock())
        assert sorted(set(lake.read("t").read_all()["n"].to_pylist())) == list(range(n))
        assert lake.read("t").read_all().num_rows == n * 1000
