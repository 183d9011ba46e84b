"""What is true of the broken wrappers of phase 11: status, verdict, and where the attention gives second order."""

from __future__ import annotations

COLLAPSE = ("OK", "silent_collapse")
CORRUPTION = ("OK", "silent_corruption")
UNUSED = ("HARD_FAIL_UNUSED", "hard_structural")

EXPECTED = {  # status, verdict, inputs that get second-order signal from the attention itself
    "baseline": ("OK", "safe", "q k v"),
    "detach_attention_output": (*COLLAPSE, ""),
    "no_grad_attention": (*UNUSED, ""),
    "once_differentiable_sim": ("HARD_FAIL_ONCE_DIFF", "first_order_only", ""),
    "stats_detach_logits_sdpa": (*COLLAPSE, "v"),
    "stats_detach_softmax_output_sdpa": (*COLLAPSE, "v"),
    "detach_q_input": (*CORRUPTION, "k v"),
    "detach_k_input": (*CORRUPTION, "q v"),
    "detach_v_input": (*CORRUPTION, "q k"),
    "detach_q_input_strict": (*UNUSED, ""),
    "detach_k_input_strict": (*UNUSED, ""),
    "detach_v_input_strict": (*UNUSED, ""),
    "checkpoint_attention": ("OK", "safe", "q k v"),
    "checkpoint_no_grad": (*UNUSED, ""),
    "checkpoint_detach_recompute": (*COLLAPSE, ""),
    "checkpoint_reentrant": ("HARD_FAIL_OTHER", "first_order_only", ""),
    "recompute_logits_no_grad_sdpa": (*UNUSED, ""),
    "backward_detach_logits_sim": (*CORRUPTION, "q k v"),
}
