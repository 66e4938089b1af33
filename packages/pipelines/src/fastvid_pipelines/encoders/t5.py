"""T5 and UMT5 as Wan and PixArt use them: a fixed number of tokens, zeros behind the end of the prompt."""

import html
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from pydantic import ConfigDict, with_config
from transformers import AutoConfig, AutoTokenizer, T5EncoderModel, UMT5EncoderModel

from fastvid_pipelines import checkpoint
from fastvid_pipelines.encoders.pretrained import load_pretrained
from fastvid_pipelines.errors import CheckpointError
from fastvid_pipelines.types import TextFeatures, check_count

logger = logging.getLogger(__name__)

MODEL_CLASSES = {"t5": T5EncoderModel, "umt5": UMT5EncoderModel}


Reader = Literal["wan", "pixart"]


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True, slots=True, kw_only=True)
class T5TextEncoderConfig:
    """Tokens of every prompt, and for whom they are.

    Attributes:
        max_tokens: longer prompts are cut, shorter ones padded. Wan and FSVideo: 512; PixArt and Reducio: 120.
        reader: `wan` attends to the padding, which is zero. `pixart` has a mask that hides it, and reads lower case.
    """

    max_tokens: int
    reader: Reader = "wan"

    def __post_init__(self) -> None:
        check_count("max_tokens", self.max_tokens, 1, 4096)
        if self.reader not in get_args(Reader):
            raise ValueError(f"`reader` is {self.reader!r}; expected 'wan' or 'pixart'")


class T5TextEncoder:
    """The encoder of a T5 or UMT5 with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, config: T5TextEncoderConfig) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = config

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """`max_tokens` tokens for each prompt, zero behind its end, which the mask leaves out where there is one."""
        cleaned = [clean(prompt) for prompt in prompts]
        if self.config.reader == "pixart":
            cleaned = [prompt.lower() for prompt in cleaned]
        batch = self.tokenizer(
            cleaned,
            padding="max_length",
            max_length=self.config.max_tokens,
            truncation=True,
            add_special_tokens=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        self._report_truncation(cleaned)
        mask = batch.attention_mask.to(self.model.device)
        tokens = self.model(batch.input_ids.to(self.model.device), mask).last_hidden_state
        return TextFeatures(
            tokens=tokens * mask.unsqueeze(-1).to(tokens.dtype),
            mask=mask.bool() if self.config.reader == "pixart" else None,
        )

    @classmethod
    def from_transformers(  # noqa: PLR0913  # where two models lie, and how to load them
        cls,
        path_or_repo_id: str | os.PathLike[str],
        config: T5TextEncoderConfig,
        *,
        model_subfolder: str = "text_encoder",
        tokenizer_subfolder: str = "tokenizer",
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Read model and tokenizer as Wan's repositories in the diffusers layout hold them.

        Args:
            dtype: of the weights; None: float32.
        Raises:
            CheckpointError: one of them is missing or damaged, or the model is neither T5 nor UMT5.
        """
        path = os.fspath(path_or_repo_id)
        hub: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only}
        own_code = hub | {"trust_remote_code": False}
        try:
            kind = AutoConfig.from_pretrained(path, subfolder=model_subfolder, **own_code).model_type
            tokenizer = AutoTokenizer.from_pretrained(path, subfolder=tokenizer_subfolder, **own_code)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"`path_or_repo_id` is {path!r}: {error}") from error
        if kind not in MODEL_CLASSES:
            raise CheckpointError(
                f"`path_or_repo_id` is {path!r}, a model of type {kind!r}; expected {' or '.join(MODEL_CLASSES)}"
            )
        model = load_pretrained(MODEL_CLASSES[kind], path, dtype=dtype, device=device, subfolder=model_subfolder, **hub)
        return cls(model, tokenizer, config)

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo_id: str | os.PathLike[str],
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Read a folder that `save_pretrained` wrote, here or on the hub.

        Args:
            dtype: of the weights; None: float32.
        Raises:
            CheckpointError: something in the folder is missing, unknown or damaged.
        """
        folder = checkpoint.find_folder(
            path_or_repo_id, subfolder=subfolder, revision=revision, local_files_only=local_files_only
        )
        config = checkpoint.read_config(folder, T5TextEncoderConfig, cls.__name__)
        return cls.from_transformers(
            folder, config, model_subfolder="model", dtype=dtype, device=device, local_files_only=True
        )

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write a new folder: config.json, and `model` and `tokenizer` as transformers writes them."""
        with checkpoint.new_folder(directory) as folder:
            checkpoint.write_json(
                Path(folder, checkpoint.CONFIG_NAME), {"_class_name": type(self).__name__, **asdict(self.config)}
            )
            self.model.save_pretrained(folder / "model")
            self.tokenizer.save_pretrained(folder / "tokenizer")

    def _report_truncation(self, prompts: Sequence[str]) -> None:
        for prompt in prompts:
            count = len(self.tokenizer(prompt, add_special_tokens=True, verbose=False).input_ids)
            if count > self.config.max_tokens:
                logger.warning(
                    "the prompt %r... has %d tokens; the last %d are cut off",
                    *(prompt[:40], count, count - self.config.max_tokens),
                )


def clean(prompt: str) -> str:
    """Without HTML entities (escaped twice at most), white space in single spaces.

    Wan also mends broken encodings; PixArt also takes out addresses, names of files and more.
    """
    return re.sub(r"\s+", " ", html.unescape(html.unescape(prompt))).strip()
