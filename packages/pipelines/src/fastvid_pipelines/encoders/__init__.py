"""Text and image encoders; `t5` and `clip` are the only importers of transformers."""
