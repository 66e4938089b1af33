"""Photo and text to video: recipes, command line, embedded model."""

__all__: list[str] = []
