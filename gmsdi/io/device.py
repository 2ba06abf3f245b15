"""The device that a network runs on, and its precision."""

from __future__ import annotations

import torch

from gmsdi.errors import UserError


def devices() -> list[str]:
    """The devices that exist here, the one that "auto" takes first."""
    cuda = [f"cuda:{k}" for k in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*(["cuda"] if len(cuda) == 1 else cuda), *mps, "cpu"]


def resolve_device(device: str | torch.device) -> str:
    """Check a device by computing on it, and resolve "auto": CUDA if there is one, else Apple's MPS, else the CPU.

    Raises:
        UserError: if it cannot be used here.
    """
    if device == "auto":
        return devices()[0].partition(":")[0]
    error: Exception | None = None
    try:
        if isinstance(device, str | torch.device) and torch.zeros(1, device=device).tolist() == [0.0]:
            return str(device)
    except (RuntimeError, AssertionError, ImportError) as caught:  # the last of device types that are packages
        error = caught
    raise UserError(f"device {device!r} cannot be used here; choose auto or {', '.join(devices())}") from error


def resolve_precision(precision: str, device: str | torch.device) -> torch.dtype | None:
    """The network's autocast type for "auto", "bf16" or "float32"; "auto" takes bf16 where it is faster.

    Among CPUs, that is those with AMX, and AMD's with AVX-512 BF16. Intel's with AVX-512 BF16 but without AMX support
    bf16, too, but the bundled model takes 1.5 times as long with it as in float32.

    Raises:
        UserError: for any other word.
    """
    if precision == "auto":
        if torch.device(device).type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        elif torch.device(device).type != "cpu":
            fast = False
        else:
            cpu = torch.cpu.get_capabilities()
            amd = str(cpu.get("cpu_name", "")).startswith("AMD")
            fast = bool(cpu.get("amx_bf16") or (cpu.get("avx512_bf16") and amd))
        return torch.bfloat16 if fast else None
    if precision not in ("bf16", "float32"):
        raise UserError(f"precision is {precision!r}; choose auto, bf16 or float32")
    return torch.bfloat16 if precision == "bf16" else None
