"""Layerline's wrapper: OpenTelemetry spans, tagged with their container and with what the kernel did to their thread."""
