"""``everywhere()`` around models of libraries that call PyTorch's attention: Hessian-vector products, against eager.

What CI installs has neither timm nor diffusers: install them beside the project to run all of this.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from theria.attention import everywhere, executed_backends

BACKENDS = ["auto", "custom"]


def multiply_hessian(parameters: list[Tensor], loss: Tensor) -> Tensor:
    """The Hessian of a loss in the parameters times a random vector, flat."""
    gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    used = [gradient for gradient in gradients if gradient is not None]
    torch.manual_seed(1)
    dot = torch.stack([(gradient * torch.randn_like(gradient)).sum() for gradient in used]).sum()
    products = torch.autograd.grad(dot, parameters, allow_unused=True)
    return torch.cat([product.flatten() for product in products if product is not None])


def check(run: Callable[[], Tensor], module: nn.Module, backend: str, expected: Tensor) -> None:
    parameters = list(module.parameters())
    with executed_backends() as names, everywhere(backend):
        found = multiply_hessian(parameters, run().square().sum())
    assert set(names) == {{"auto": "reference"}.get(backend, backend)}
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_timm(backend: str) -> None:
    timm = pytest.importorskip("timm", reason="needs timm, which the project does not depend on")
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
    model = timm.create_model("vit_tiny_patch16_224", **sizes).double()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    attentions = [block.attn for block in model.blocks]
    assert all(attention.fused_attn for attention in attentions)
    for attention in attentions:
        attention.fused_attn = False
    expected = multiply_hessian(list(model.parameters()), model(images).square().sum())
    for attention in attentions:
        attention.fused_attn = True
    check(lambda: model(images), model, backend, expected)


def make_unet() -> tuple[nn.Module, Callable[[], Tensor]]:
    """A model whose attention is that of a processor."""
    from diffusers import UNet2DConditionModel

    sizes = {"sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    model = UNet2DConditionModel(**sizes, **blocks, cross_attention_dim=8, attention_head_dim=4).double()
    x, text = torch.randn(1, 4, 8, 8, dtype=torch.float64), torch.randn(1, 3, 8, dtype=torch.float64)
    return model, lambda: model(x, 5, encoder_hidden_states=text).sample


def make_flux() -> tuple[nn.Module, Callable[[], Tensor]]:
    """A model whose attention goes through the registry of attention backends."""
    from diffusers import FluxTransformer2DModel

    sizes = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
    widths = {"in_channels": 4, "joint_attention_dim": 8, "pooled_projection_dim": 8, "axes_dims_rope": (4, 4, 8)}
    model = FluxTransformer2DModel(patch_size=1, **sizes, **widths).double()
    x, text, pooled = (torch.randn(shape, dtype=torch.float64) for shape in ((1, 6, 4), (1, 3, 8), (1, 8)))
    places = {"img_ids": torch.zeros(6, 3), "txt_ids": torch.zeros(3, 3), "timestep": torch.tensor([0.5])}
    return model, lambda: model(x, encoder_hidden_states=text, pooled_projections=pooled, **places).sample


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make", [make_unet, make_flux])
def test_diffusers(make: Callable[[], tuple[nn.Module, Callable[[], Tensor]]], backend: str) -> None:
    pytest.importorskip("diffusers", reason="needs diffusers, which the project does not depend on")
    torch.manual_seed(0)
    model, run = make()
    with sdpa_kernel(SDPBackend.MATH):
        expected = multiply_hessian(list(model.parameters()), run().square().sum())
    check(run, model, backend, expected)


def make_multihead() -> nn.Module:
    return nn.MultiheadAttention(8, 2, batch_first=True)


def make_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)


def make_encoder() -> nn.Module:
    return nn.TransformerEncoder(make_layer(), 2)  # type: ignore[arg-type]


X = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
PADDED = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


def run_module(module: nn.Module, x: Tensor) -> Tensor:
    """With padding, which PyTorch's path without gradients has code of its own for."""
    if isinstance(module, nn.MultiheadAttention):
        attended: Tensor = module(x, x, x, key_padding_mask=PADDED, need_weights=False)[0]
        return attended
    output: Tensor = module(x, src_key_padding_mask=PADDED)
    return output


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [make_multihead, make_layer, make_encoder])
@pytest.mark.parametrize("backend", BACKENDS)
def test_modules_of_pytorch(make: Callable[[], nn.Module], training: bool, backend: str) -> None:
    torch.manual_seed(0)
    module = make().double().train(training)
    with sdpa_kernel(SDPBackend.MATH):
        expected = multiply_hessian(list(module.parameters()), run_module(module, X).square().sum())
    check(lambda: run_module(module, X), module, backend, expected)


@pytest.mark.parametrize("make", [make_multihead, make_layer, make_encoder])
@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_modules_in_evaluation_are_computed_by_the_backend_without_gradients_too(
    make: Callable[[], nn.Module], guard: Callable[[], AbstractContextManager[Any]]
) -> None:
    """PyTorch has one operator for all of such a module there, which the block keeps away."""
    torch.manual_seed(0)
    module = make().double().eval()
    with guard():
        expected = run_module(module, X)
        with executed_backends() as names, everywhere("custom"):
            found = run_module(module, X)
    assert set(names) == {"custom"}
    torch.testing.assert_close(found[~PADDED], expected[~PADDED])


@pytest.mark.parametrize("make", [make_multihead, make_layer])
def test_forward_mode_of_frozen_modules_in_evaluation(make: Callable[[], nn.Module]) -> None:
    """Nothing requires a gradient there, and the one operator has no forward mode."""
    torch.manual_seed(0)
    module = make().double().eval().requires_grad_(False)
    direction = X.roll(1, -1)

    def gradient(x: Tensor) -> Tensor:
        return torch.func.grad(lambda x: run_module(module, x).square().sum())(x)  # type: ignore[no-any-return]

    with everywhere("custom"):
        found = torch.func.jvp(gradient, (X,), (direction,))[1]
        tangent = torch.func.jvp(lambda x: run_module(module, x), (X,), (direction,))[1]
    step = 1e-4
    near, other = X + step * direction, X - step * direction
    with everywhere("reference"):
        differences = (gradient(near) - gradient(other)) / (2 * step)
        slope = (run_module(module, near) - run_module(module, other)) / (2 * step)
    torch.testing.assert_close(found, differences, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(tangent, slope, rtol=1e-6, atol=1e-6)
