"""Which of the two kinds of transformers a model is, told by what its `forward` asks for."""

import inspect

from fastvid_export.interfaces import ContentTransformer, VideoTransformer


def is_content_transformer(model: VideoTransformer | ContentTransformer) -> bool:
    """Whether it is a `ContentTransformer`, which is given a content frame."""
    return "content" in inspect.signature(model.forward).parameters
