"""Small random pipelines of diffusers' real classes, saved as the hub stores them. Their text is bytes (ByT5)."""

from __future__ import annotations

import json
from pathlib import Path

import torch


def tokenizer(length: int):
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer(extra_ids=0, model_max_length=length)


def oobleck(ratios, rate, channels=2, dim=4):
    from diffusers import AutoencoderOobleck

    return AutoencoderOobleck(
        encoder_hidden_size=2 * dim,  # a mean and a deviation for each
        downsampling_ratios=list(ratios),
        channel_multiples=[1] * len(ratios),
        decoder_channels=4,
        decoder_input_channels=dim,
        audio_channels=channels,
        sampling_rate=rate,
    )


def lively(module, seed=0):
    """The module with parameters in which nothing is zero, as fresh output layers and biases are."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def stable_audio(folder=None, latents=32):
    from diffusers import (
        CosineDPMSolverMultistepScheduler,
        StableAudioDiTModel,
        StableAudioPipeline,
        StableAudioProjectionModel,
    )
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(vocab_size=384, d_model=12, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    parts = {
        "vae": lively(oobleck((4, 8), rate=4410)),
        "text_encoder": lively(T5EncoderModel(config)),
        "projection_model": lively(
            StableAudioProjectionModel(text_encoder_dim=12, conditioning_dim=8, min_value=0, max_value=32)
        ),
        "transformer": lively(
            StableAudioDiTModel(
                sample_size=latents,
                in_channels=4,
                out_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                num_key_value_attention_heads=1,
                cross_attention_dim=8,
                cross_attention_input_dim=8,
                global_states_input_dim=16,
                time_proj_dim=8,
            )
        ),
    }
    pipeline = StableAudioPipeline(
        **parts, tokenizer=tokenizer(24), scheduler=CosineDPMSolverMultistepScheduler(sigma_max=500, sigma_min=0.3)
    )
    return saved(pipeline, folder)


def stable_audio_3(folder=None, distilled=False):
    from diffusers import (
        AutoencoderSAME,
        FlowMatchEulerDiscreteScheduler,
        StableAudio3DiTModel,
        StableAudio3Pipeline,
    )
    from diffusers.pipelines.stable_audio_3.modeling_stable_audio_3 import StableAudio3DurationEmbedder
    from transformers import T5GemmaConfig, T5GemmaEncoderModel

    torch.manual_seed(1)
    size = {
        "vocab_size": 384,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
    }
    parts = {
        "vae": lively(
            AutoencoderSAME(
                patch_size=8,
                encoder_channels=8,
                encoder_c_mults=[2],
                encoder_strides=[4],
                encoder_transformer_depths=[1],
                latent_dim=4,
                dim_heads=8,
                sampling_rate=4410,
            )
        ),
        "text_encoder": lively(
            T5GemmaEncoderModel(T5GemmaConfig(encoder=size, decoder=size, is_encoder_decoder=False, vocab_size=384))
        ),
        "duration_embedder": lively(StableAudio3DurationEmbedder(output_dim=8, fourier_dim=8)),
        "transformer": lively(
            StableAudio3DiTModel(
                io_channels=4,
                embed_dim=16,
                depth=2,
                num_heads=2,
                cond_token_dim=8,
                global_cond_dim=8,
                local_add_cond_dim=5,
                timestep_features_dim=8,
                num_memory_tokens=2,
            )
        ),
    }
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, stochastic_sampling=distilled)
    return saved(StableAudio3Pipeline(**parts, tokenizer=tokenizer(24), scheduler=scheduler), folder)


def ace_step(folder=None, turbo=False):
    from diffusers import (
        AceStepConditionEncoder,
        AceStepPipeline,
        AceStepTransformer1DModel,
        FlowMatchEulerDiscreteScheduler,
    )
    from transformers import Qwen3Config, Qwen3Model

    torch.manual_seed(2)
    shape = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
    }
    text = Qwen3Config(vocab_size=384, num_hidden_layers=1, **shape)
    encoder = lively(
        AceStepConditionEncoder(
            text_hidden_dim=16,
            timbre_hidden_dim=4,
            num_lyric_encoder_hidden_layers=1,
            num_timbre_encoder_hidden_layers=1,
            sliding_window=8,
            **shape,
        )
    )
    encoder.silence_latent.normal_()
    parts = {
        "vae": lively(oobleck((4, 8), rate=4800)),
        "text_encoder": lively(Qwen3Model(text)),
        "condition_encoder": encoder,
        "transformer": lively(
            AceStepTransformer1DModel(
                num_hidden_layers=2,
                in_channels=12,
                audio_acoustic_hidden_dim=4,
                sliding_window=8,
                is_turbo=turbo,
                **shape,
            )
        ),
    }
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0)
    return saved(AceStepPipeline(**parts, tokenizer=tokenizer(256), scheduler=scheduler), folder)


def dance_diffusion(folder=None):
    from diffusers import DanceDiffusionPipeline, IPNDMScheduler, UNet1DModel

    torch.manual_seed(3)
    unet = UNet1DModel(
        sample_size=256,
        sample_rate=4410,
        in_channels=2,
        out_channels=2,
        extra_in_channels=16,
        flip_sin_to_cos=True,
        use_timestep_embedding=False,
        time_embedding_type="fourier",
        time_embedding_dim=16,
        mid_block_type="UNetMidBlock1D",
        block_out_channels=(32, 32),
        down_block_types=("DownBlock1DNoSkip", "AttnDownBlock1D"),
        up_block_types=("AttnUpBlock1D", "UpBlock1DNoSkip"),
    )
    pipeline = saved(DanceDiffusionPipeline(unet=lively(unet), scheduler=IPNDMScheduler()), folder, pickled=True)
    if folder is not None:  # as published, before the setting existed
        path = Path(folder) / "unet" / "config.json"
        config = json.loads(path.read_text())
        del config["time_embedding_dim"]
        path.write_text(json.dumps(config))
    return pipeline


def saved(pipeline, folder, pickled=False):
    pipeline.set_progress_bar_config(disable=True)
    if folder is not None:
        pipeline.save_pretrained(folder, safe_serialization=not pickled)
    return pipeline
