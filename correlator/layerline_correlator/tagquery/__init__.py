"""The tag query: one line that selects containers by their tags and compares them by what was measured.

``grammar.lark`` is the language, ``parse`` makes the dataclasses of ``model`` of a text, ``condition`` makes SQL of a
selection, ``evaluate`` answers a whole query from the store. docs/QUERY.md is the page for those who ask.
"""
