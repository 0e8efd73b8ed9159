"""How right the verdicts about labelled cases are: ``layerline evaluate FOLDER``.

``labels`` (what happened, as somebody wrote it down) → ``cases`` (a recording, or a copy of a store, and what is said
about it) → ``score`` (is it right?) and ``floors`` (what the simplest rules say about the same data).
"""
