"""What the user has silenced: ignore comments, rules that are not selected, the baseline.

`apply.suppress_findings` runs after the dynamic stage, because a silenced suspect still takes part in the ablations.
"""
