"""What Prometheus' clients ask: series made of requests and readings, and what of PromQL is calculated over them.

``metrics.py`` says which series there are, ``reading.py`` reads their samples, ``evaluate.py`` calculates, and
``answers.py`` says it as Prometheus does. Source: Prometheus 3, "HTTP API" and "Querying basics".
"""
