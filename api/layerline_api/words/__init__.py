"""What pages and commands both say: names, amounts, times, and what a verdict is in sentences.

Plain text only: colours, widths and HTML are the business of ``terminal`` and ``page``.
"""
