"""Checks of `layerline doctor` that a bare install can make: each file has a ``CHECK`` (``layerline/doctor.py``)."""
