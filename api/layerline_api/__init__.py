"""The API: OTLP receivers, the questions of an investigation, the commands that ask them."""
