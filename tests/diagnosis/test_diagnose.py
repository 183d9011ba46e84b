"""``theria.diagnose`` names the part of a model that is not twice differentiable, and leaves the model alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import theria
from theria.verdicts import Verdict


class Attention(nn.Module):
    """Attention whose weights pass through ``cut``."""

    def __init__(self, dim: int, cut: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.cut((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)) @ v


class Block(nn.Module):
    def __init__(self, dim: int, **options: Any) -> None:
        super().__init__()
        self.attn = Attention(dim, **options)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(dim, dim))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x + self.attn(x)))


class Model(nn.Module):
    def __init__(self, layers: int = 12, broken: int | None = None, **options: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(8, **(options if i == broken else {})) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Halved(torch.autograd.Function):
    """The identity; its first derivative is right, and the derivative of that is half of what it should be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x.cos())
        return x.sin()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0]


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0].cos()


def _off_graph(x: Tensor) -> Tensor:
    return x.detach() + 0 * x.sum().detach()


CUTS: dict[str, tuple[Callable[[Tensor], Tensor], Verdict]] = {
    "detached": (_off_graph, Verdict.SILENT_CORRUPTION),
    "saved intermediate": (Halved.apply, Verdict.SILENT_CORRUPTION),
    "once differentiable": (Once.apply, Verdict.FIRST_ORDER_ONLY),
}


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("training", [True, False])
def test_the_one_bad_layer_of_twelve_is_named(name: str, training: bool) -> None:
    cut, verdict = CUTS[name]
    torch.manual_seed(0)
    model = Model(broken=7, cut=cut).train(training)
    found = theria.diagnose(model, torch.randn(2, 5, 8))
    assert [node.name for node in found.culprits] == ["layers.7.attn"]
    assert found.culprit is not None
    assert (found.culprit.verdict, found.verdict) == (verdict, verdict)
    assert "layers.7.attn" in str(found)
    assert __file__ in str(found)


def test_a_sound_model_is_safe_and_its_attention_is_listed() -> None:
    torch.manual_seed(0)
    found = theria.diagnose(Model(3), torch.randn(2, 5, 8))
    assert found.safe
    assert [node.name for node in found.root.children] == [f"layers.{i}.attn" for i in range(3)]
    assert found.lost is not None
    assert found.lost < 1e-6


def test_the_model_its_gradients_and_the_random_state_stay_as_they_are() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    x = torch.randn(6, 4)
    model(x).sum().backward()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    random, kept = torch.get_rng_state(), x.clone()
    assert theria.diagnose(model, x).safe
    assert torch.equal(random, torch.get_rng_state())
    assert torch.equal(kept, x)
    assert x.grad is None
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(a, p.grad) for a, p in zip(gradients, model.parameters(), strict=True) if p.grad is not None)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_a_loss_and_keywords_are_taken() -> None:
    class Scored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = Attention(4)

        def forward(self, x: Tensor, *, mask: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
            return {"scores": self.attention(x) * mask * scale}

    found = theria.diagnose(
        Scored(), torch.randn(2, 3, 4), mask=torch.rand(2, 3, 1), scale=0.5, loss=lambda o: o["scores"].square().mean()
    )
    assert found.safe


def test_what_computes_in_float32_inside_is_not_blamed_for_its_rounding() -> None:
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8))

        def forward(self, x: Tensor) -> Tensor:
            y = x.float()
            return self.weight * (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype)

    torch.manual_seed(0)
    assert theria.diagnose(nn.Sequential(nn.Linear(8, 8), Rounded()), torch.randn(4, 8)).verdict is Verdict.SAFE


def test_fused_attention_is_remedied_by_the_math_path() -> None:
    class Fused(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            q = x.unflatten(-1, (2, 4)).transpose(1, 2)
            return nn.functional.scaled_dot_product_attention(q, q, q)

    found = theria.diagnose(nn.Sequential(nn.Linear(8, 8), Fused()), torch.randn(2, 5, 8))
    assert found.verdict is Verdict.FIRST_ORDER_ONLY
    assert found.culprit is not None
    assert (found.culprit.name, found.culprit.attention) == ("1", True)
    assert found.remedy is not None
    assert "sdpa_kernel(SDPBackend.MATH)" in found.remedy


def test_an_output_outside_the_graph_and_an_input_without_effect_are_told_apart() -> None:
    class Outside(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor(x.detach().numpy() ** 2)

    found = theria.diagnose(nn.Sequential(nn.Linear(4, 4), Outside()), torch.randn(2, 4))
    assert found.culprit is not None
    assert found.culprit.name == "1"
    assert found.culprit.verdict is Verdict.HARD_STRUCTURAL


def test_the_share_that_is_lost_is_measured() -> None:
    class Shared(nn.Module):
        """sin x + cos y: the second derivative of the first term is lost."""

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return Halved.apply(x) + y.sin()  # type: ignore[no-untyped-call, no-any-return]

    torch.manual_seed(0)
    x, y = torch.randn(50, dtype=torch.float64), torch.randn(50, dtype=torch.float64)
    found = theria.diagnose(Shared(), x, y)
    assert found.verdict is Verdict.SILENT_CORRUPTION
    assert found.lost == pytest.approx(0.7, abs=0.2)  # of two blocks of a size, one is lost


def test_json_holds_the_tree() -> None:
    torch.manual_seed(0)
    document = theria.diagnose(Model(2, broken=1, cut=_off_graph), torch.randn(2, 5, 8)).to_json()
    assert document["culprits"] == ["layers.1.attn"]
    names = [child["name"] for child in document["modules"]["children"]]
    assert names == ["layers.0", "layers.1"]


def test_what_the_model_raises_is_raised() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        theria.diagnose(nn.Linear(3, 3), torch.randn(2, 4))


def test_the_row_of_padding_is_no_loss() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(9, 8, padding_idx=0)
            self.attention = Attention(8)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.attention(self.embedding(tokens))

    torch.manual_seed(0)
    assert theria.diagnose(Tokens(), torch.tensor([[3, 4, 0, 0], [1, 0, 2, 8]])).safe
