"""Other people's models and pipelines; nothing here is imported by the rest of the package.

What is patched is undone when the video is made, or when the `with` block ends.
"""
