"""The ledger: from spans and readings to a request's parts by cause, set-based, for many traces at once."""
