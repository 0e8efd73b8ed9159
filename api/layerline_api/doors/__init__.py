"""What comes in: OTLP over HTTP and gRPC, and deploys as webhooks tell of them.

A door bounds, decodes and translates what others send into the store's rows; ``intake.py`` stores it. Addresses and the
two servers that listen are here too. It answers no questions: that is for ``routes``.
"""
