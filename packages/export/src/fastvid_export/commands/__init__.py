"""The verbs of `fastvid-cli export`, one a file."""
