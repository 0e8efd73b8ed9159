"""One file per fault, each with a ``FAULT`` of the file's name."""
