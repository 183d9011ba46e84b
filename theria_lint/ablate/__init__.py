"""Ablation: rewrite a source in memory so that given suspects do nothing.

`rewriting.ablate_suspects` is the entry point, `replacements` says what takes the place of each kind of suspect, or of
a whole ``autograd.Function`` where no rewrite exists (substitutes, run by ``worker/autograd_substitutes``). The only
room that imports libcst.
"""
