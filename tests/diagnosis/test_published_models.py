"""``theria.diagnose`` on models of libraries, in small random configurations; the libraries are no dependency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import theria
from theria.verdicts import Verdict

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}


def build_bert(attention: str, **changes: Any) -> tuple[nn.Module, tuple[Tensor, ...], Mapping[str, Any]]:
    library = pytest.importorskip("transformers")
    config = library.BertConfig(**SMALL | changes, vocab_size=99, attn_implementation=attention)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    return library.BertModel(config).eval(), (torch.randint(99, (2, 7)),), {"attention_mask": mask}


def build_llama(attention: str) -> tuple[nn.Module, tuple[Tensor, ...], Mapping[str, Any]]:
    library = pytest.importorskip("transformers")
    config = library.LlamaConfig(**SMALL, num_key_value_heads=2, vocab_size=99, attn_implementation=attention)
    return library.LlamaForCausalLM(config).train(), (torch.randint(99, (2, 7)),), {}


def build_vit(attention: str) -> tuple[nn.Module, tuple[Tensor, ...], Mapping[str, Any]]:
    library = pytest.importorskip("transformers")
    config = library.ViTConfig(**SMALL, image_size=16, patch_size=4, attn_implementation=attention)
    return library.ViTModel(config).eval(), (torch.randn(1, 3, 16, 16),), {}


def build_timm_vit(attention: str) -> tuple[nn.Module, tuple[Tensor, ...], Mapping[str, Any]]:
    library = pytest.importorskip("timm.models.vision_transformer", exc_type=Exception)
    model = library.VisionTransformer(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4, num_classes=5)
    for block in model.blocks:
        block.attn.fused_attn = attention == "sdpa"
    return model.eval(), (torch.randn(2, 3, 16, 16),), {}


def build_diffusers_block(attention: str) -> tuple[nn.Module, tuple[Tensor, ...], Mapping[str, Any]]:
    blocks = pytest.importorskip("diffusers.models.attention", exc_type=Exception)
    processors = pytest.importorskip("diffusers.models.attention_processor", exc_type=Exception)
    model = blocks.BasicTransformerBlock(16, 2, 8, cross_attention_dim=12).eval()
    for part in (model.attn1, model.attn2) if attention == "eager" else ():
        part.set_processor(processors.AttnProcessor())
    return model, (torch.randn(2, 6, 16),), {"encoder_hidden_states": torch.randn(2, 5, 12)}


BUILDERS = {
    "BERT": build_bert,
    "Llama": build_llama,
    "ViT": build_vit,
    "timm's ViT": build_timm_vit,
    "a block of diffusers": build_diffusers_block,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_attention_in_plain_operations_is_safe(name: str) -> None:
    torch.manual_seed(0)
    model, inputs, keywords = BUILDERS[name]("eager")
    found = theria.diagnose(model, *inputs, **keywords)
    assert found.safe, str(found)
    assert sum(node.attention for node in found.root.walk()) >= 2


@pytest.mark.parametrize("name", BUILDERS)
def test_fused_attention_is_named_with_its_remedy(name: str) -> None:
    torch.manual_seed(0)
    model, inputs, keywords = BUILDERS[name]("sdpa")
    found = theria.diagnose(model, *inputs, **keywords)
    assert found.verdict is Verdict.FIRST_ORDER_ONLY
    assert len(found.culprits) == 2
    assert all(culprit.attention for culprit in found.culprits)
    assert "SDPBackend.MATH" in (found.remedy or "")


class Silent(nn.Module):
    """A projection whose input is not in the graph, and nobody is told."""

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, hidden: Tensor) -> Tensor:
        projected: Tensor = self.projection(hidden.detach())
        return projected + 0 * hidden


def test_one_silent_layer_of_twelve_is_named() -> None:
    torch.manual_seed(0)
    model, inputs, keywords = build_bert("eager", num_hidden_layers=12)
    attention = model.get_submodule("encoder.layer.7.attention.self")
    attention.query = Silent(attention.query)
    found = theria.diagnose(model, *inputs, **keywords)
    assert found.verdict in (Verdict.SILENT_CORRUPTION, Verdict.SILENT_COLLAPSE)
    assert [culprit.name for culprit in found.culprits] == ["encoder.layer.7.attention.self.query"]
