"""The correlator: store, requests, segments, evidence, ledger, verdicts."""
