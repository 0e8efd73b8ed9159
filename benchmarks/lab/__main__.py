"""``python -m benchmarks.lab``."""

import sys

from benchmarks.lab.command import main

sys.exit(main())
