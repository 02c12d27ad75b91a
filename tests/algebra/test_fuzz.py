from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from penstock.algebra.build_kernel import SOURCES, compiler

pytestmark = pytest.mark.skipif(shutil.which(compiler()[0]) is None, reason="no C compiler here")


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("fuzz") / "series_fuzz"
    kernel = [
        str(SOURCES / f"{name}.c") for name in ("program", "fold", "series", "distinct", "finish", "query", "prefix")
    ]
    flags = ["-std=c11", "-O1", "-g", "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(
        [*compiler(), *flags, str(SOURCES / "fuzz" / "series_fuzz.c"), *kernel, "-lm", "-o", str(target)], check=True
    )
    return target


@pytest.mark.parametrize("seed", [1, 2026])
def test_random_series_equal_brute_force_under_sanitizers(fuzzer: Path, seed: int) -> None:
    run = subprocess.run([str(fuzzer), str(seed), "2"], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[0]) > 50
