"""The commands: every file here has a ``main(argv) -> exit code``, and the list of commands is this folder.

A command has the name of its file, or of its ``COMMAND`` where the file is named as the room or the route is that it
belongs to: ``events.py`` holds ``layerline event``. A file's docstring begins with what ``layerline --help`` says of
it, and that of ``main`` with how it is called; `layerline docs commands` is made from both. Commands that ask a server
have ``asking.py`` in common and print what ``terminal`` makes of its answers.
"""
