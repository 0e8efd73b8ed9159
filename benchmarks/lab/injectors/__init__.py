"""What makes a request slow: context managers over a ``Subject`` that always undo what they did.

A fault imports the injector that it needs, so a new one is a function here and a line in its fault, and no list.
"""
