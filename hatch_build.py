"""Compiles the C kernel into the wheel (and in place for an editable install)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build = Path(self.root, "penstock", "algebra", "build_kernel.py")
        subprocess.run([sys.executable, str(build)], check=True)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
