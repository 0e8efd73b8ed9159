"""Incidents: stretches of time in which an operation was in trouble more often than usual; nobody has to ask.

``watch`` looks at what was worked out lately, ``gather`` makes incidents of what it finds; ``detect``, ``group`` and
``takeover`` decide (plain arithmetic, no clock and no database); ``describe`` says of one incident what an engineer
wants to know.
"""
