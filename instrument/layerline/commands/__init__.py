"""Commands of a bare install: every file here has a ``main(argv) -> exit code`` (``layerline/command.py``)."""
