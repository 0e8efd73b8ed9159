"""What Jaeger's clients ask: its query API, version 3 and the older one that Grafana and Jaeger's own page use.

Sources: ``api_v3/query_service.proto`` of ``jaeger-idl`` and its HTTP gateway; for the older one, which Jaeger calls
internal, ``jaeger/internal/uimodel`` and what Grafana's data source sends.
"""
