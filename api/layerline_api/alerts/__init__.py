"""What goes out: monitors asked on schedule, and their alerts told to whom they name."""
