"""`lohi-export study`: every model trained, measured on the same held-out heads, and compared."""
