"""The watch-folder daemon: enhance for ever, lose nothing. Crash-only: starting is recovery."""
