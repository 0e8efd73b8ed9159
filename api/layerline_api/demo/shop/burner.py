"""A busy neighbour: processes that use the CPU and nothing else, until told to stop.

Each one also leaves when its parent has gone, so that none outlives a demo that was killed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal

from layerline_api.demo.shop.burn import burn


def forever(parent: int) -> None:
    """Burn in pieces of 100 ms for as long as the parent lives."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while os.getppid() == parent:
        burn(100_000_000)


def main() -> None:
    """Start the burners and wait for them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--processes", type=int, default=2)
    count = arguments.parse_args().processes
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    burners = [multiprocessing.Process(target=forever, args=(os.getpid(),), daemon=True) for _ in range(count)]
    for burner in burners:
        burner.start()
    for burner in burners:
        burner.join()


if __name__ == "__main__":
    main()
