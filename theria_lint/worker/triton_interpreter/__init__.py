"""Run Triton kernels where there is no GPU: complete Triton's interpreter, and keep kernels inside their tensors.

`interpreter` replaces what Triton's interpreter lacks or gets wrong (bfloat16 products, masks, scalar loops, a driver),
and what newer Tritons have removed (block pointers), `externals` CUDA's math library and inline assembly, which `ptx`
evaluates. `bounds` checks every load and store against the tensors of the launch, and fills memory that nobody wrote,
so that a kernel called with wrong arguments fails instead of returning garbage. `launching` works with and without a
GPU: it counts launches, spares the autotuner's benchmarks and asks for full float32 precision.

Everything here replaces attributes of Triton for the whole process: use it in a worker's child only.
"""
