"""What agents ask (Model Context Protocol): a tool for each question, and a small answer that says how sure it is.

``tools.py`` asks Layerline's own API, on this server or another one; ``said.py`` keeps answers small; ``server.py``,
which alone needs the package ``mcp``, offers the tools over standard input and output, and over HTTP.
"""
