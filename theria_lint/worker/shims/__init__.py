"""Shims: what stands in for what the machine lacks, so that code for a GPU runs on the CPU and can be measured.

Installed in a worker's child before the code under test is imported; they replace attributes of torch for the whole
process. `fake_cuda` answers for ``torch.cuda`` and, once enabled, sends tensors that name ``cuda`` to the CPU.
`no_codegen` keeps ``torch.compile`` from starting a compiler. A `ShimLog` records every shim that was used, every
question about a GPU that the code asked and every package that it missed: a run is reported with them, for a verdict
with shims is one about that path only. Shims for Triton are in `worker.triton_interpreter`.
"""
