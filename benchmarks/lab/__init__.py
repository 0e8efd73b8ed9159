"""The fault lab: real faults with known milliseconds, put into real containers."""
