"""OLMoE: many small experts; queries and keys are normalized over all heads at once."""

from apportion.kernels.ops import Routing
from apportion.models.config import Structure
from apportion.models.family import Family
from apportion.models.templates import ATTENTION, EXPERTS, NORMS, QK_NORMS, TOP

FAMILY = Family(
    gguf=("olmoe",),
    model_types=("olmoe",),
    structure=Structure(qk_norm="all"),
    tensors={**NORMS, **ATTENTION, **QK_NORMS, **EXPERTS},
    top=TOP,
    routing=Routing(top_k=8),
)
