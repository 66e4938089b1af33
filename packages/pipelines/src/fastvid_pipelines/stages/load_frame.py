"""A picture, given or made from the prompt, to the frame that the video is built on."""

import torch
from jaxtyping import Float
from torch import Tensor

from fastvid_pipelines.interfaces import TextToImage
from fastvid_pipelines.photo_io import fit_photo, load_photo, to_frame
from fastvid_pipelines.types import ImageInput


def load_frame(
    image: ImageInput | None,
    text_to_image: TextToImage | None,
    *,
    prompt: str,
    height: int,
    width: int,
    generator: torch.Generator,
) -> Float[Tensor, "1 3 h w"]:
    """The picture, scaled and cropped to the size of the video, in [-1, 1].

    Args:
        image: None: what `text_to_image` makes of the prompt.
        generator: on the CPU; handed to `text_to_image`.
    Raises:
        ValueError: no picture and nothing that makes one, or what there is cannot be used.
    """
    if image is not None:
        return to_frame(fit_photo(load_photo(image), height, width))
    if text_to_image is None:
        raise ValueError(
            "`image` is None and the pipeline has no `text_to_image`; give a picture, or a pipeline that makes one"
        )
    if not callable(text_to_image):
        raise ValueError(f"`text_to_image` is {text_to_image!r}; expected a function of a prompt, or None")
    made = text_to_image(prompt, height=height, width=width, generator=generator)
    try:
        picture = load_photo(made)
    except ValueError as error:
        raise ValueError(f"`text_to_image` returned something else than one picture: {error}") from error
    return to_frame(fit_photo(picture, height, width))
