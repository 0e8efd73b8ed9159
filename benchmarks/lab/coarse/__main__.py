"""``python -m benchmarks.lab.coarse``."""

import sys

from benchmarks.lab.coarse.command import main

sys.exit(main())
