"""The fault lab: real containers, real faults drawn from a seed, and how right the verdicts about them were.

``python -m benchmarks.lab`` draws cases, runs them, keeps one JSON line per case, scores them and writes
``docs/ACCURACY.md``. A fault is one file in ``faults``; the list of faults is that folder.
"""
