"""What makes them slow: each injector is a context manager that always undoes what it did."""
