"""Checks of `layerline doctor` about what the agent reads: each file has a ``CHECK`` (``layerline/doctor.py``)."""
