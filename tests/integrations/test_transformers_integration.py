"""``attn_implementation="theria"`` in models of the real library, held against its own eager attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from theria.attention import executed_backends

transformers = pytest.importorskip("transformers", reason="needs the extra transformers")
register = pytest.importorskip("theria.integrations.transformers").register

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 8, 9, 7]])
PADDED = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
SMALL: dict[str, Any] = {"vocab_size": 11, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}


def make_bert(attention: str, dropout: float = 0.0) -> Any:
    torch.manual_seed(0)
    shares = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": dropout}
    config = transformers.BertConfig(**SMALL, **shares, num_attention_heads=2, attn_implementation=attention)
    return transformers.BertModel(config).double()


def make_llama(attention: str) -> Any:
    torch.manual_seed(0)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SMALL, **heads, attn_implementation=attention)
    ).double()


def make_gemma(attention: str) -> Any:
    """A model that caps its scores."""
    torch.manual_seed(0)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "query_pre_attn_scalar": 4}
    config = transformers.Gemma2Config(
        **SMALL, **heads, attn_logit_softcapping=0.05, sliding_window=3, attn_implementation=attention
    )
    return transformers.Gemma2ForCausalLM(config).double()


def make_gpt_oss(attention: str) -> Any:
    """A model with sinks."""
    torch.manual_seed(0)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
    experts = {"num_local_experts": 2, "num_experts_per_tok": 2, "experts_implementation": "eager"}
    config = transformers.GptOssConfig(**SMALL, **heads, **experts, sliding_window=3, attn_implementation=attention)
    return transformers.GptOssForCausalLM(config).double()


MODELS: dict[str, tuple[Callable[[str], Any], Callable[[Any], Tensor]]] = {
    "bert": (make_bert, lambda model: model(IDS, attention_mask=PADDED).last_hidden_state.square().sum()),
    "llama": (make_llama, lambda model: model(IDS, attention_mask=PADDED, labels=IDS).loss),
    "gemma 2": (make_gemma, lambda model: model(IDS, attention_mask=PADDED, labels=IDS).loss),
    "gpt-oss": (make_gpt_oss, lambda model: model(IDS, attention_mask=PADDED, labels=IDS).loss),
}


def multiply_hessian(model: Any, compute_loss: Callable[[Any], Tensor]) -> Tensor:
    """The Hessian of a loss in the parameters times a random vector, flat."""
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(compute_loss(model), parameters, create_graph=True, allow_unused=True)
    used = [gradient for gradient in gradients if gradient is not None]
    torch.manual_seed(1)
    dot = sum((gradient * torch.randn_like(gradient)).sum() for gradient in used)
    assert isinstance(dot, Tensor)
    products = torch.autograd.grad(dot, parameters, allow_unused=True)
    return torch.cat([product.flatten() for product in products if product is not None])


@pytest.mark.parametrize("backend", ["auto", "custom"])
@pytest.mark.parametrize("name", MODELS)
def test_hessian_vector_products_agree_with_eager_attention(name: str, backend: str) -> None:
    make, compute_loss = MODELS[name]
    register("theria", backend=backend)
    with executed_backends() as names:
        found = multiply_hessian(make("theria"), compute_loss)
    assert names == [{"auto": "reference"}.get(backend, backend)] * 2
    expected = multiply_hessian(make("eager"), compute_loss)
    # Llama's eager attention takes its softmax in float32, whatever the model's dtype.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_dropout_is_drawn_in_training_alone() -> None:
    register("theria")
    model = make_bert("theria", dropout=0.5)
    run = lambda: model(IDS).last_hidden_state  # noqa: E731
    assert not torch.equal(run(), run())
    model.eval()
    torch.testing.assert_close(run(), run(), rtol=0, atol=0)


@pytest.mark.parametrize("make", [make_llama, make_gemma, make_gpt_oss])
def test_generation_with_a_cache_is_that_of_eager_attention(make: Callable[[str], Any]) -> None:
    register("theria")
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "use_cache": True}
    found, expected = (make(name).eval().generate(IDS, **options) for name in ("theria", "eager"))
    assert torch.equal(found, expected)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="backend='flash' is unknown"):
        register("theria", backend="flash")
