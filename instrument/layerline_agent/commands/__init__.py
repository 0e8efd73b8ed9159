"""Commands of the extra ``agent``: every file here has a ``main(argv) -> exit code`` (``layerline/command.py``)."""
