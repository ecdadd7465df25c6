"""One placement as Triton's dynamic batcher serves it (`batches`), compiled."""

from igniter_opt.base.compiled import compiled
from igniter_opt.physics.batches import serve_plainly

serve = compiled(serve_plainly)
