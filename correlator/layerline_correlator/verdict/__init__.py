"""The verdict: compares ledgers with what is usual of their operation, rates requests, and names who is to blame."""
