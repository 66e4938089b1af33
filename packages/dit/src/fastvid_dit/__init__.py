"""Video diffusion transformers: FSVideo DiT with layer memory."""

__all__: list[str] = []
