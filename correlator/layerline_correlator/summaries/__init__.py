"""What was received and worked out, summed up per minute: questions about long windows read this, not every row."""
