"""Modules whose sizes are tensors, made fit for CUDA graphs: what does not depend on the input is computed once.

While a graph is captured, nothing may be read from the card or copied to it from pageable memory. Converted ONNX models
do both, if only to reshape: their shapes are tensors, constant or made of the input's shape. So a module's operations
are recorded once per shape of its input. Those on constants are carried out then and there, and what they are read for
(sizes, axes) becomes part of the record; those on the input, and no others, are repeated. Records share the weights.
"""

from collections.abc import Callable
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.optional import load


def capturable(inner: Any, source: str) -> Any:
    """Return a module that answers as `inner`, with operations on the card only, after one run at a shape.

    Parameters
    ----------
    inner
        Takes one tensor and computes without gradients. It may read what does not depend on its input's values.
    source
        Where it comes from, for errors.

    Raises
    ------
    InputError
        At the first run at a shape: `inner` reads values that depend on its input's.
    """
    nn = load("torch").nn

    class Capturable(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner
            self.records: dict[Any, Any] = {}

        def _apply(self, *args: Any, **options: Any) -> Any:
            self.records.clear()  # they are of tensors on another device or of another type
            return super()._apply(*args, **options)

        def forward(self, given: Any) -> Any:
            key = (given.shape, given.stride(), given.dtype, given.device)
            if key not in self.records:
                self.records[key] = _recorded(self.inner, given, source)
            return self.records[key](given)

    return Capturable()


def _recorded(inner: Any, given: Any, source: str) -> Any:
    """Run a module and return the operations that depended on what it was given, as a module."""
    torch = load("torch")
    record = _Record(given, _float_kind(inner))
    # Modules of converted models have the names of the ONNX nodes.
    hooks = [part.register_forward_pre_hook(record.entering(name)) for name, part in inner.named_modules() if name]
    try:
        with torch.no_grad(), _watched_methods(record), _watched_operations(record):
            result = inner(given)
    except Exception:
        # A wrong answer to a refused read may lead anywhere.
        if not record.reads:
            raise
    finally:
        for hook in hooks:
            hook.remove()
    if record.reads:
        raise InputError(
            f"{source}: cannot be captured in a CUDA graph, for what it does depends on the values that it is given"
            f" ({', '.join(record.reads)}); export it without branches on values and without steps whose results vary"
            " in size, such as box suppression"
        )
    return record.module(result)


class _Record:
    """Operations on a tensor and on what was computed of it; `kind` is the type of the module's floats."""

    def __init__(self, given: Any, kind: Any) -> None:
        torch = load("torch")
        self.torch, self.device, self.kind = torch, given.device, kind
        self.graph, self.constants = torch.fx.Graph(), torch.nn.Module()
        self.nodes = torch.utils.weak.WeakIdKeyDictionary()
        self.nodes[given] = self.graph.placeholder("given")
        self.attributes = torch.utils.weak.WeakIdKeyDictionary()
        self.reads: list[str] = []
        self.step = ""

    def entering(self, name: str) -> Callable[..., None]:
        """Return a hook that notes which part of the module runs."""

        def hook(*_: Any) -> None:
            self.step = name

        return hook

    def is_known(self, value: Any) -> bool:
        """Whether a value is a tensor that depends on the input's values."""
        return self.torch.is_tensor(value) and value in self.nodes

    def refuse(self, operation: str) -> None:
        """Note an operation that a CUDA graph cannot hold."""
        said = f"{self.step}: {operation}" if self.step else operation
        if said not in self.reads:
            self.reads.append(said)

    def add(self, function: Any, given: tuple[Any, ...], options: dict[str, Any], result: Any) -> None:
        """Note an operation that was carried out."""
        tree_map = self.torch.utils._pytree.tree_map
        if self._reads(function, given, result):
            self.refuse(str(function))
        node = self.graph.call_function(function, tree_map(self._node, given), tree_map(self._node, options))
        if self.torch.is_tensor(result):
            self.nodes[result] = node
        elif isinstance(result, list | tuple):
            for index, part in enumerate(result):
                if self.torch.is_tensor(part):
                    self.nodes[part] = self.graph.call_function(_part, (node, index))

    def module(self, result: Any) -> Any:
        """Return what was noted as a module."""
        self.graph.output(self.torch.utils._pytree.tree_map(self._node, result))
        return self.torch.fx.GraphModule(self.constants, self.graph)

    def _reads(self, function: Any, given: tuple[Any, ...], result: Any) -> bool:
        """Whether an operation makes the processor wait for values, or writes them where no record sees it."""
        torch, tags = self.torch, function.tags
        if torch.is_tensor(result) and result.device != self.device:
            return True
        if function._schema.is_mutable and any(torch.is_tensor(to) and to not in self.nodes for to in given[:1]):
            return True
        if "index" in function.overloadpacket.__name__ and isinstance(given[1], list | tuple):
            masked = any(part is not None and part.dtype in (torch.bool, torch.uint8) for part in given[1])
            # Writing one value where a mask says is an operation of its own.
            return masked and not (len(given) > 2 and given[2].numel() == 1)
        return torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags

    def _node(self, value: Any) -> Any:
        if not self.torch.is_tensor(value):
            return value
        if value in self.nodes:
            return self.nodes[value]
        if value not in self.attributes:
            name = f"constant_{len(self.constants._buffers)}"
            # A scalar on the processor is an argument of a kernel; anything else would be copied at every run.
            self.constants.register_buffer(name, value if value.dim() == 0 else value.to(self.device))
            self.attributes[value] = name
        return self.graph.get_attr(self.attributes[value])


def _float_kind(module: Any) -> Any:
    tensors = [*module.parameters(), *module.buffers()]
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), load("torch").float32)


def _part(values: Any, index: int) -> Any:
    return values[index]


def _watched_operations(record: _Record) -> Any:
    torch = load("torch")
    python = torch.utils._python_dispatch

    class Watched(python.TorchDispatchMode):  # type: ignore[misc, name-defined]
        def __torch_dispatch__(self, function: Any, kinds: Any, given: Any = (), options: Any = None) -> Any:
            options = options or {}
            if options.get("dtype") is torch.float32:
                # Of a module made half precision, what its file casts to float32 goes with its weights.
                options = {**options, "dtype": record.kind}
            leaves = torch.utils._pytree.tree_leaves((given, options))
            result = function(*given, **options)
            if any(record.is_known(leaf) for leaf in leaves):
                record.add(function, given, options, result)
            return result

    return Watched()


def _watched_methods(record: _Record) -> Any:
    """Watch what reads a tensor of the processor's without any operation."""
    torch = load("torch")
    readers = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.cpu}

    class Watched(torch.overrides.TorchFunctionMode):  # type: ignore[misc, name-defined]
        def __torch_function__(self, function: Any, kinds: Any, given: Any = (), options: Any = None) -> Any:
            if function in readers and record.is_known(given[0]):
                record.refuse(f"Tensor.{function.__name__}")
            return function(*given, **(options or {}))

    return Watched()
