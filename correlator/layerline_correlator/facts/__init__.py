"""Facts: what senders report, brought together before anything is judged. Which container and machine a span came from,
and what people call them."""
