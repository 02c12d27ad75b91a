from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.errors import WorkflowError
from penstock.testing.executors import Place
from penstock.workflows.executor.local.veil import filter_log

SECRET = "s3cret-value"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("place") / "project", slots=1) as opened:
        folder = opened.state / "secrets"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "door").write_text(SECRET + "\n")
        (folder / "door").chmod(0o600)
        (folder / "open").write_text("x")
        (folder / "open").chmod(0o644)
        (opened.project / "knows.py").write_text(
            "import os, signal, subprocess\n"
            "def tell(context):\n    value = context.secret('door')\n    print('it is', value, flush=True)\n"
            "    subprocess.run(['echo', 'and', value[:3] + value[3:]], check=True)\n    return len(value)\n"
            "def fail(context):\n    raise ValueError('with ' + context.secret('door'))\n"
            "def die(context):\n    print('last', context.secret('door'), 'words', flush=True)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        yield opened


def test_a_secret_is_struck_out_of_the_log(place: Place) -> None:
    task = place.task("x", parameters={"call": "knows:tell"})
    (end,) = place.run(task)
    assert (end.outputs, end.error) == ({"result": len(SECRET)}, "")
    assert place.log(task) == "it is ***\nand ***\n"


def test_a_secret_of_a_parameter_is_filled_in_and_struck_out(place: Place) -> None:
    command = "echo $DOOR; echo {{ secret.door }} | tr -d '\\n' | wc -c"
    task = place.task("x", component="shell", parameters={"command": command, "secrets": {"DOOR": "door"}})
    (end,) = place.run(task)
    assert end.outcome == "done", end.error
    assert place.log(task).split() == ["***", str(len(SECRET))]


def test_a_failure_tells_no_secret(place: Place) -> None:
    task = place.task("x", parameters={"call": "knows:fail"})
    (end,) = place.run(task)
    assert end.error == "ValueError: with ***"
    assert SECRET not in place.log(task)
    assert "with ***" in place.log(task)


def test_the_last_words_of_a_killed_task_reach_the_log(place: Place) -> None:
    task = place.task("x", parameters={"call": "knows:die"})
    (end,) = place.run(task)
    assert (end.outcome, place.log(task).splitlines()[0]) == ("failed", "last *** words")


def test_a_secret_that_others_can_read_or_that_is_missing_is_refused(place: Place) -> None:
    (end,) = place.run(place.task("x", component="shell", parameters={"command": "{{ secret.open }}"}))
    assert "chmod 600" in end.error
    (end,) = place.run(place.task("x", component="shell", parameters={"command": "{{ secret.none }}"}))
    assert "PENSTOCK_SECRET_NONE" in end.error
    assert WorkflowError.code in end.error


def test_a_secret_in_pieces_is_struck_out(tmp_path: Path) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, write = os.pipe()
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY, 0o600)
    thread = threading.Thread(target=filter_log, args=(read, far.detach(), log))
    thread.start()
    near.send(SECRET.encode())
    assert near.recv(1) == b"k"
    near.close()
    for piece in (b"a s3cr", b"et-va", b"lue s3c", b"ond s3cret"):
        os.write(write, piece)
        time.sleep(0.02)
    os.close(write)
    thread.join()
    os.close(read)
    os.close(log)
    assert (tmp_path / "log").read_bytes() == b"a *** s3cond s3cret"
