"""Training of the autoencoders; inference never imports it."""
