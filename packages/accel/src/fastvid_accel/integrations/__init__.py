"""Other people's models and pipelines; nothing here is imported by the rest of the package."""
