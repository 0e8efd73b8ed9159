"""However many files there are to read, descriptors are left for everything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_MANY = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 200))
from layerline_agent.files import File, most_endings
File.keep_many()
files = [File(path) for path in sorted(map(str, Path(sys.argv[1]).iterdir()))]
for _ in range(2):
    assert all(file.read() == b"7" for file in files)
others = [open("/dev/null") for _ in range(most_endings() + 20)]
print(File._kept, most_endings())
"""


def test_more_files_than_descriptors(tmp_path: Path) -> None:
    """Three times as many files as a process may open are read, again and again; half of its descriptors stay free."""
    for number in range(600):
        (tmp_path / str(number)).write_text("7")
    ran = subprocess.run(
        [sys.executable, "-c", _MANY, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    kept, endings = map(int, ran.stdout.split())
    assert kept <= 100
    assert endings == 50
