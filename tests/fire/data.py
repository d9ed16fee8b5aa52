"""What tests need from outside of the project: real landscapes and optional packages. A test that lacks them says so."""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
LANDSCAPES = Path(os.environ.get("FLOWRL_LANDSCAPES", ROOT.parent / "shared" / "data" / "landscapes"))


def landscapes(name: str) -> Path:
    """The folder of a real landscape; skips the test where it is missing."""
    folder = LANDSCAPES / name
    if not folder.is_dir():
        _skip(f"REAL LANDSCAPE MISSING: no {folder}; set FLOWRL_LANDSCAPES to the folder that has {name}")
    return folder


def package(name: str) -> ModuleType:
    """An optional package; skips the test where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        _skip(f"PACKAGE MISSING: {name}; pip install -e '.[fire]'")


def _skip(reason: str) -> NoReturn:
    warnings.warn(reason, stacklevel=3)  # pytest lists warnings, but not why it skips
    pytest.skip(reason)
