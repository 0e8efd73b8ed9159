"""The correlator: keeps what arrives, works out where requests spent their time, and answers questions about it.

Data goes down its rooms: store, facts, ledger, verdict, incidents, monitors, questions. ``tagquery`` is a language.
"""
