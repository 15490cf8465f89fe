"""Fail unless the installed wheel computes, in parallel, with the libgomp that it carries."""

from pathlib import Path

import numpy as np

import cycnn

with cycnn.threads(2):
    y = cycnn.functional.conv2d(np.ones((8, 64, 64, 16), "f4"), np.ones((3, 3, 16, 64), "f4"))
assert np.allclose(y, 3 * 3 * 16, rtol=1e-5)
maps = Path("/proc/self/maps").read_text().splitlines()
gomp = {Path(line.split()[-1]) for line in maps if "libgomp" in line}
assert [path.parent.name for path in gomp] == ["cycnn.libs"], gomp
