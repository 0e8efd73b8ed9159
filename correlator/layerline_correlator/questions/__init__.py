"""Questions: what the API may ask (``questions.py``) and the class that answers (``answers.py``). Every other file is
one question and is named after it: its query, its answer, and the function between the two."""
