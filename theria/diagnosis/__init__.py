"""``theria.diagnose``: which part of a model is not twice differentiable.

captured_call keeps the calls that a model makes of its submodules → directional measures one call by Hessian-vector
products beside differences of gradients → diagnose descends from the model to the parts that are to blame → tree
holds what was found, and prints it.
"""

from theria.diagnosis.diagnose import diagnose
from theria.diagnosis.tree import Diagnosis, ModuleDiagnosis

__all__ = ["Diagnosis", "ModuleDiagnosis", "diagnose"]
