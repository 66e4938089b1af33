"""What producers give is what consumers ask for. Read by the type checkers, never run."""

import fastvid_accel
import fastvid_accel.interfaces as accel
import fastvid_dit as dit
import fastvid_dit.conversion.wan_layouts as wan
import fastvid_dit.cost as fastvid_dit_cost
import fastvid_export
import fastvid_export.interfaces as export
import fastvid_pipelines
import fastvid_pipelines.commands.calibrate as calibrating
import fastvid_pipelines.commands.convert as converting
import fastvid_pipelines.commands.plan as planning
import fastvid_pipelines.interfaces as pipelines
import fastvid_vae
import fastvid_vae.conversion.dc_ae_layouts as dc_ae
import fastvid_vae.conversion.odvae_layout as od_vae
import fastvid_vae.cost
import torch
from fastvid_accel.conversion.rife import RIFE
from fastvid_accel.no_acceleration import full_attention
from fastvid_accel.vgdfr.ifnet import RIFE_4_25, IFNet
from fastvid_accel.vgdfr.restore import Interpolator
from fastvid_pipelines.stages.preview import PreviewCodec

# accel, for whoever runs the denoising loop
accelerator: accel.Accelerator = fastvid_accel.NoAcceleration()
session: accel.Session = fastvid_accel.NoAcceleration().start(num_steps=4)
merging: accel.Accelerator = fastvid_accel.VGDFR()
reducing: accel.Session = fastvid_accel.AsymRnR().start(num_steps=4)
composed: accel.Accelerator = fastvid_accel.compose(fastvid_accel.NoAcceleration())

interpolator: Interpolator = IFNet(RIFE_4_25)
reduced: dit.AttentionOp = fastvid_accel.AsymRnR().start(num_steps=4).attention

# attention, from accel to dit; where it happens, from dit to accel
attention: dit.AttentionOp = full_attention
site: accel.AttentionSite = dit.AttentionSite(block=0, num_blocks=1, grid=(1, 1, 1))

# models and accelerators, for pipelines
autoencoder: pipelines.Autoencoder = fastvid_vae.FSAE(fastvid_vae.FSAE_LITE)
with_content: pipelines.ClipAutoencoder = fastvid_vae.ReducioVAE(fastvid_vae.REDUCIO_FT4)
without_reference: pipelines.Autoencoder = fastvid_vae.ODVAE(fastvid_vae.ODVAE_VARIANT_4)
transformer: pipelines.Transformer = dit.FSVideoDiT(dit.FSVIDEO_14B)
shown_content: pipelines.ContentTransformer = dit.ReducioDiT(dit.REDUCIO_DIT_XL)
upsampler: pipelines.Upsampler = fastvid_vae.LatentUpsampler(fastvid_vae.LATENT_UPSAMPLER_2X)
refiner: pipelines.RefinerTransformer = dit.FSVideoDiT(dit.FSVIDEO_14B)
none: pipelines.Accelerator = fastvid_accel.NoAcceleration()
fewer_frames: pipelines.Accelerator = fastvid_accel.VGDFR()
asymrnr: pipelines.Accelerator = fastvid_accel.AsymRnR()
calibrator: calibrating.Calibrator = fastvid_accel.Calibrator()
several: pipelines.Accelerator = fastvid_accel.compose(fastvid_accel.NoAcceleration())

# costs, for the plan
denoising: planning.TransformerCost = fastvid_dit_cost.fsvideo_14b((1, 1, 1))
decoding: planning.AutoencoderCost = fastvid_vae.cost.fsvideo_14b((1, 64, 64))

# layouts of other people's weights, for the verb that converts them
wan_diffusers: converting.Layout = wan.WAN_DIFFUSERS
wan_official: converting.Layout = wan.WAN_OFFICIAL
dc_ae_diffusers: converting.Layout = dc_ae.DC_AE_DIFFUSERS
dc_ae_efficientvit: converting.Layout = dc_ae.DC_AE_EFFICIENTVIT
flownet: converting.Layout = RIFE
od_vae_checkpoint: converting.Layout = od_vae.ODVAE_CHECKPOINT

# the steps of pipelines and their look at a video, as accel reads them
codec: accel.VideoCodec = PreviewCodec(autoencoder=autoencoder, reference=torch.zeros(1, 3, 64, 64))
step: accel.Step = fastvid_pipelines.Step(index=0, num_steps=1, sigma=1.0, next_sigma=0.0)

# engines, for pipelines; models and accelerators, for engines
loaded: fastvid_export.LoadedEngine = fastvid_export.load_engine("engines/transformer")
served: pipelines.RefinerTransformer = fastvid_export.EngineTransformer(dit.FSVideoDiT(dit.FSVIDEO_14B), loaded)
decoded: pipelines.Autoencoder = fastvid_export.EngineAutoencoder(fastvid_vae.FSAE(fastvid_vae.FSAE_LITE), loaded)
enlarged: pipelines.Upsampler = fastvid_export.EngineUpsampler(
    fastvid_vae.LatentUpsampler(fastvid_vae.LATENT_UPSAMPLER_2X), loaded
)
selecting: export.SelectingAttention = fastvid_accel.AsymRnR().start(num_steps=4).attention

# models, for export
decoder: export.VideoDecoder = fastvid_vae.FSAE(fastvid_vae.FSAE_LITE)
encoder: export.VideoEncoder = fastvid_vae.FSAE(fastvid_vae.FSAE_LITE)
content_encoder: export.VideoEncoder = fastvid_vae.ReducioVAE(fastvid_vae.REDUCIO_FT4)
plain_encoder: export.VideoEncoder = fastvid_vae.ODVAE(fastvid_vae.ODVAE_VARIANT_4)
chunked_encoder: export.ChunkedEncoder = fastvid_vae.FSAE(fastvid_vae.FSAE_LITE)
chunked_decoder: export.ChunkedDecoder = fastvid_vae.FSAE(fastvid_vae.FSAE_LITE)
enlarging: export.LatentUpsampler = fastvid_vae.LatentUpsampler(fastvid_vae.LATENT_UPSAMPLER_2X)
content_decoder: export.VideoDecoder = fastvid_vae.ReducioVAE(fastvid_vae.REDUCIO_FT4)
plain_decoder: export.VideoDecoder = fastvid_vae.ODVAE(fastvid_vae.ODVAE_VARIANT_4)
flat: export.VideoTransformer = dit.FSVideoDiT(dit.FSVIDEO_14B)
content_flat: export.ContentTransformer = dit.ReducioDiT(dit.REDUCIO_DIT_XL)
