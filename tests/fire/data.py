"""Where the real landscapes are: outside of the project. Tests that need them say that they skip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LANDSCAPES = Path(os.environ.get("FLOWRL_LANDSCAPES", ROOT.parent / "shared" / "data" / "landscapes"))


def landscapes(name: str) -> Path:
    """The folder of a real landscape; skips the test where it is missing."""
    folder = LANDSCAPES / name
    if not folder.is_dir():
        pytest.skip(f"REAL LANDSCAPE MISSING: no {folder}; set FLOWRL_LANDSCAPES to the folder that has {name}")
    return folder


def rasterio():
    """The package; skips the test where it is missing."""
    return pytest.importorskip("rasterio", reason="RASTERIO MISSING: pip install -e '.[fire]'; GeoTIFF is not tested")
