"""The agent: readings of containers and hosts, and events of their lives, out as OTLP."""
