"""Commands of `lohi-edge`, one module per room."""
