from __future__ import annotations

import subprocess
import sys

CODE = """
import subprocess, sys
from penstock.workflows.hidden import Hidden
hidden = Hidden()
print("before pass-word-1")
hidden.hide("pass-word-1")
hidden.hide("two lines\\nof another")
hidden.hide("abc")
print("after pass-word-1, of another, abc", flush=True)
sys.stdout.write("in pie"); sys.stdout.flush()
sys.stdout.write("ces pass-wo"); sys.stdout.flush()
sys.stdout.write("rd-1 joined\\n"); sys.stdout.flush()
subprocess.run(["sh", "-c", "echo from below pass-word-1; echo two lines >&2"])
print("no end of line: pass-word-1", end="")
hidden.close()
print("\\nafterwards", hidden.clean("said pass-word-1"))
"""


def test_secrets_are_struck_out_of_everything_that_is_written() -> None:
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    assert done.stdout.splitlines() == [
        "before pass-word-1",
        "after ***, ***, abc",
        "in pieces *** joined",
        "from below ***",
        "***",
        "no end of line: ***",
        "afterwards said ***",
    ]
