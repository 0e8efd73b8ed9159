"""The demo: a small shop in containers, real faults with known milliseconds, and what Layerline says about them.

Read it in this order: ``shop/`` (three services), ``faults.py`` (what is done to them), ``story.py`` (one after the
other, under load), ``judge.py`` (was the verdict right), ``commands/demo.py``. How the services come to run is told by
``root.py`` and ``containers.py``, and by ``processes.py`` where there is no engine.
"""
