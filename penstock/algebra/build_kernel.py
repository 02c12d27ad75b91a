"""Compiles the C kernel in place: `python penstock/algebra/build_kernel.py`; does nothing when it is up to date.

Every `kernel/*.c` is compiled with warnings as errors, then linked with the binding that cffi makes from the
declarations in `kernel/*.cdef` (API mode) into `_kernel.*.so` beside this file.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "kernel"
FLAGS = [
    *("-std=c11", "-O3", "-fPIC", "-fvisibility=hidden"),
    "-ffp-contract=off",  # the same sums on every processor
    "-fno-math-errno",
    *("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wundef", "-Werror"),
    "-Wno-sign-conversion",  # sizes are int64 here and size_t in the C library
]


def sources_digest() -> str:
    """Digest of everything the kernel is made from and for, but for the compiler."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(str(sysconfig.get_config_var("EXT_SUFFIX")).encode())
    for path in sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.h"), *SOURCES.glob("*.cdef")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def compiler() -> list[str]:
    """The C compiler that the environment or Python's own build names."""
    named = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shlex.split(named)[:1]


def compile_objects(into: Path) -> list[str]:
    """Compiles each source by itself, strictly.

    Raises:
        subprocess.CalledProcessError: the compiler refused a source; its words are on standard error.
    """
    objects = []
    for source in sorted(SOURCES.glob("*.c")):
        target = into / f"{source.stem}.o"
        subprocess.run([*compiler(), *FLAGS, "-c", str(source), "-o", str(target)], check=True)
        objects.append(str(target))
    return objects


def build() -> Path:
    """Builds when anything changed; returns the library's path."""
    stamp, digest = HERE / "_kernel.digest", sources_digest()
    existing = sorted(HERE.glob("_kernel*.so"))
    if existing and stamp.exists() and stamp.read_text() == digest:
        return existing[0]
    from cffi import FFI  # only a build needs it

    ffi = FFI()
    headers = sorted(path.name for path in SOURCES.glob("*.h"))
    for declarations in sorted(SOURCES.glob("*.cdef"), key=lambda path: (path.name != "kernel.cdef", path.name)):
        ffi.cdef(declarations.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        ffi.set_source(
            "penstock.algebra._kernel",
            "\n".join(f'#include "{name}"' for name in headers),
            include_dirs=[str(SOURCES)],
            extra_objects=compile_objects(Path(scratch)),
            libraries=["m"],
        )
        built = Path(ffi.compile(tmpdir=scratch, verbose=False))
        target = HERE / built.name
        for old in existing:
            old.unlink()
        part = target.with_suffix(".part")
        shutil.copy(built, part)
        part.rename(target)
    stamp.write_text(digest)
    return target


if __name__ == "__main__":
    build()
