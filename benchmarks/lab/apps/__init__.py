"""The programs that the lab makes slow."""
