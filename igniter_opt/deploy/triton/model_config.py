"""Triton's model configuration: the user's, and the one that serves a placement of a plan.

Both are read and written with Triton's own protobuf definitions.
"""

from pathlib import Path
from typing import Any

from igniter_opt.base.errors import InputError, explained
from igniter_opt.base.files import read_text
from igniter_opt.base.optional import load

CONFIG_FILE = "config.pbtxt"
# The file that a backend looks for in a version folder, where it is one file of a fixed name.
MODEL_FILES = {
    "tensorrt": "model.plan",
    "onnxruntime": "model.onnx",
    "pytorch": "model.pt",
    "python": "model.py",
    "tensorflow_savedmodel": "model.savedmodel",
    "tensorflow_graphdef": "model.graphdef",
    "openvino": "model.xml",
}
PLATFORMS = {
    "tensorrt_plan": "tensorrt",
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "pytorch",
    "tensorflow_savedmodel": "tensorflow_savedmodel",
    "tensorflow_graphdef": "tensorflow_graphdef",
}


def protobuf() -> Any:
    """Return Triton's generated protobuf module."""
    return load("tritonclient.grpc.model_config_pb2")


def read_config(path: Path) -> Any:
    """Read a ``config.pbtxt`` as Triton's ``ModelConfig`` message.

    Raises
    ------
    InputError
        If there is no such file or it is no model configuration.
    """
    text_format = load("google.protobuf.text_format")
    try:
        return text_format.Parse(read_text(path), protobuf().ModelConfig())
    except (text_format.ParseError, RecursionError) as error:
        raise InputError(f"{path}: not a Triton model configuration ({explained(error)})") from None


def config_text(config: Any) -> str:
    """Render a ``ModelConfig`` as the text of a ``config.pbtxt``."""
    return str(load("google.protobuf.text_format").MessageToString(config))


def model_file(config: Any) -> str | None:
    """Return the name of the file that every version folder must hold, where it is known."""
    if config.default_model_filename:
        return str(config.default_model_filename)
    backend = config.backend or PLATFORMS.get(config.platform, "")
    if backend == "tensorflow":
        backend = config.platform
    return MODEL_FILES.get(backend)


def check_suitable(config: Any, batch: int, source: str) -> None:
    """Raise InputError if a model cannot be served in batches of `batch` as a plan assumes."""
    choice = config.WhichOneof("scheduling_choice")
    if choice == "sequence_batching":
        raise InputError(f"{source}: uses sequence batching; plans are made for dynamic batching of single requests")
    if choice == "ensemble_scheduling":
        raise InputError(f"{source}: is an ensemble; plan and deploy each of its models")
    if config.max_batch_size == 0 and batch > 1:
        raise InputError(
            f"{source}: max_batch_size is 0 (the model has no batch dimension), the plan needs batch {batch};"
            " give a model that takes batches, or plan with a profile measured at batch 1"
        )
    if 0 < config.max_batch_size < batch:
        raise InputError(
            f"{source}: max_batch_size {config.max_batch_size} is below the plan's batch {batch};"
            f" build the model for batches of {batch} and say so there"
        )


def serving_config(config: Any, name: str, batch: int, queue_delay_us: int, *, cpu: bool, instances: int = 1) -> Any:
    """Return the configuration that serves one placement.

    Parameters
    ----------
    config
        The user's configuration; inputs, outputs and everything not named here are kept.
    batch
        The plan's batch: largest and preferred. A model without a batch dimension stays without.
    queue_delay_us
        How long the batcher may wait for a batch to fill, in microseconds.
    cpu
        Whether the instance runs on the processor instead of the GPU.
    instances
        How many of them take batches from the one queue: the processes of a slice under MIG.
    """
    kinds = protobuf().ModelInstanceGroup
    result = type(config)()
    result.CopyFrom(config)
    result.name = name
    if config.max_batch_size > 0:
        result.max_batch_size = batch
        del result.dynamic_batching.preferred_batch_size[:]
        result.dynamic_batching.preferred_batch_size.append(batch)
        result.dynamic_batching.max_queue_delay_microseconds = queue_delay_us
    # One instance on a share: its latency is that of one execution at a time.
    profiles = list(config.instance_group[0].profile) if config.instance_group else []
    del result.instance_group[:]
    if cpu:
        result.instance_group.add(count=instances, kind=kinds.KIND_CPU)
    else:
        # The server sees one GPU only, as its GPU 0.
        result.instance_group.add(count=instances, kind=kinds.KIND_GPU, gpus=[0], profile=profiles)
    return result
