"""The stages of a run, in order: encode_prompt, encode_reference, denoise, decode."""
