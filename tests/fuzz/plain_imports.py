"""Import this before `atheris.instrument_imports`: the package then comes straight from `src`.

Atheris instruments only what Python's own path finder loads; an editable install has a finder of its own, and
behind it fuzzing is blind.
"""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]

sys.meta_path[:] = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
sys.path[:0] = [str(_ROOT / "src"), str(_ROOT)]
