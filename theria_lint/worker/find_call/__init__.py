"""Find a working call of a target: a search over call strategies × layouts × sizes × dtypes, decided by running.

In short (`search.find_working_call`)::

    strategies = list_strategies(target)             # most likely first
    for dtypes in (precise, half):
        for layouts in group_layouts(target):        # what the source says first
            for dtype, size in dtypes × sizes:       # most telling size first
                for strategy, layout in strategies × layouts:
                    run_trial(strategy, spec)        # build, forward, validity checks, backward
            hill_climb(failed trials)                # only where no trial of the group worked
        if a trial worked: return post_passes(best)
    raise CannotCallError                            # the error of the trial that got furthest

Before any of this come recorded calls (`replayed_call`; smaller where they are slow: `replay_sizes`), then code of docs
and tests that comes to a call (`watched_call`).

Step by step, with the module that does it:

1. Strategies (`strategies`). Choose by kind of target: functions, autograd Functions, wrappers and callable objects of
   q, k, v are bound there; `module_calls` builds a module and calls its forward (one
   that refuses what it is given is kept for the next trial: `prepared_module`); `shape_inference` infers the shapes
   of functions of any tensors; a function of a record is one of its fields (`opened_target`). A helper is first called
   as its package calls it (`watched_call`).
2. Specs (`call_strategy`). A `TrialSpec` is one choice of layout, sizes, dtype and device; `search` orders them by what
   the source says of shapes (`signatures`). A `CallStrategy` makes a `BoundCall` of it.
3. Arguments. `signatures` reads what a target takes; `choose_arguments` tells q, k, v from the other parameters, and
   knows what constructors are given; `argument_values` lists candidates by name and annotation, those that tell where
   packed sequences end (cu_seqlens) among them; `module_inputs` makes a forward's tensors. A choice says which
   candidate each parameter takes.
4. Trial (`run_trial`). Make the call, run one forward and one backward. A trial that raises becomes a `FailedTrial`
   with its error and its progress: the stage, then the instruction that each frame had reached.
5. Validity checks (`run_trial`). The output is finite, and a kernel does not return memory that it never wrote; packed
   sequences stay apart; the output depends on the inputs; in a module one position depends on another; the gradients
   fit the inputs. A call that runs and fails a check is a failed trial like any other. A backward that autograd refuses
   is not: that is for the probe to tell.
6. Choice of layout (`search`). Among layouts that work, agreement with reference attention wins, then a layout that
   keeps heads apart. A group that neither agrees nor gives attention's shape counts only if no later group does better.
7. Hill climb (`hill_climb`). Start from the failed trials that got furthest, one a layout; change one argument, size
   or dtype, as the error asks or else in turn, an image for a larger one; keep the change that gets further; stop when
   none does.
8. Post-passes (`search`), each kept only if its trial works: float32 where a kernel of another package ran in float64,
   defaults in place of made-up optional arguments, smaller sizes where a call is slow, learned tensors (gates, decays)
   among the inputs.

A `WorkingCall` is the result: a strategy and the spec in which it worked; `computation` looks at what it computes. The
room `configurations` then looks for specs in which the same strategy takes other branches: `unset_tensors` reads which
arguments that are None by default go together, `tensor_forms` draws what they are given. Each search has a budget in
seconds, after which it gives up.

To add a strategy: write a function that returns a `CallStrategy` and yield it in `strategies.list_strategies`.
"""
