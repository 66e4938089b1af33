"""A text-to-image pipeline of diffusers that takes no time, with random weights."""

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

WORDS = ["<pad>", "</s>", "<unk>", "the", "camera", "pans", "left", "slowly"]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Eight words."""
    raw = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def tiny_t5(kind: type = T5EncoderModel) -> T5EncoderModel:
    """Tokens 16 wide."""
    config = T5Config(vocab_size=len(WORDS), d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4)
    return kind(config).eval()


def tiny_autoencoder_kl() -> AutoencoderKL:
    """Four channels, eight pixels a latent."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return AutoencoderKL(block_out_channels=(4, 4, 8, 8), latent_channels=4, norm_num_groups=2, **blocks).eval()


def tiny_pixart() -> PixArtAlphaPipeline:
    """PixArt-alpha with everything small."""
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        sample_size=32,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=16,
        caption_channels=16,
        use_additional_conditions=False,
    )
    return PixArtAlphaPipeline(
        tokenizer=tiny_tokenizer(),
        text_encoder=tiny_t5(),
        vae=tiny_autoencoder_kl(),
        transformer=transformer.eval(),
        scheduler=DPMSolverMultistepScheduler(),
    )
