"""One placement as Triton's dynamic batcher serves it (`batches`, and `many_processes` in a slice), compiled."""

from igniter_opt.base.compiled import compiled
from igniter_opt.physics.batches import serve_plainly
from igniter_opt.physics.many_processes import serve_many_plainly

serve = compiled(serve_plainly)
serve_many = compiled(serve_many_plainly)
