"""The dynamic stage, parent side: confirm or clear every suspect by running its targets. Never imports torch.

An ablation is a set of suspects that a variant of the source leaves out. For each target:

1. Baseline: run the target as written. If it is safe, every suspect that it executed is cleared; if inconclusive,
   none can be ruled on.
2. Clean variant: ablate all executed suspects, and whatever comes into reach thereby. Suspects without a rewrite are
   replaced by substitutes where there are some. If this variant does not run, look for a smaller ablation that does.
3. One by one: from the clean variant, put back one suspect at a time. It is confirmed if the target gets worse, and
   cleared if not.
4. Interactions: if the target is still unsafe without the confirmed suspects, search the rest for minimal harmful
   subsets (delta debugging), then for pairs that cancel each other.
5. Verified fix: run the target without its confirmed suspects. If it is safe, that rewrite is offered.

A suspect is confirmed if any target confirms it. `confirm.confirm_suspects` is the entry point, and holds step 5;
`eligibility` says which files are run; `schedule` asks for the variants of all targets side by side; `attribution` and
`interactions` hold steps 2 to 4; `runner` takes outcomes from `outcome_cache` or has an `executor` measure them: a
worker of this machine (`worker_client`, which chooses its GPU, and `protocol`), or those of a cluster
(`cluster_executor`, `cluster_pools`; on their side `cluster_worker`); `coverage_map` tells which suspects a run
executed; `call_hints` which calls the worker tries first.
"""
