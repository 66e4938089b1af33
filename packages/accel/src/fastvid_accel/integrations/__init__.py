"""Foreign hosts. What is patched here is undone when the video is made, or when the `with` block ends."""
