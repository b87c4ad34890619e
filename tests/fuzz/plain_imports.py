"""Import this before `atheris.instrument_imports`: the package then comes straight from `src`.

Atheris instruments only what Python's own path finder loads; an editable install has a finder of its own, and
behind it fuzzing is blind.
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]

sys.meta_path[:] = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
sys.path[:0] = [str(_ROOT / "src"), str(_ROOT)]

# The compiled core lies where it was installed, out of reach from `src`.
for _library in Path(sysconfig.get_path("platlib"), "apportion").glob("_native*.so"):
    _spec = importlib.util.spec_from_file_location("apportion._native", _library)
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["apportion._native"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["apportion._native"])
