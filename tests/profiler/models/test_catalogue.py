"""Naming models: what is found, and what is refused, without torch."""

from pathlib import Path

import pytest

from igniter_opt import InputError
from igniter_opt.profiler.models.catalogue import BUILT_IN, find_model


def test_built_in_models_have_the_sizes_of_their_inputs() -> None:
    assert len(BUILT_IN) >= 8
    assert find_model("ssd").input_bytes == 3 * 300 * 300
    assert find_model("bert_base").input_bytes == 8 * 128
    assert (find_model("bert_base").data_type, find_model("unet").data_type) == ("INT64", "UINT8")


def test_factories_and_files_take_shapes(tmp_path: Path) -> None:
    factory = find_model("mine=tests.profiler.tiny:pictures@3x16x16")
    assert (factory.name, factory.shape, factory.kind) == ("mine", (3, 16, 16), "bytes")
    assert find_model("words=tests.profiler.tiny:pictures@64t").kind == "tokens"
    floats = find_model("floats=tests.profiler.tiny:pictures@3x8x8f")
    assert (floats.kind, floats.data_type, floats.input_bytes) == ("floats", "FP32", 4 * 3 * 8 * 8)
    file = tmp_path / "net.pt"
    file.write_bytes(b"")
    assert find_model(f"net={file}").shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resnet5", "did you mean 'resnet50'?"),
        ("x=nowhere.at.all:f", "'nowhere.at.all' cannot be imported (No module named 'nowhere' [Mod"),
        ("x=tests.profiler.failing:f", "'tests.profiler.failing' cannot be imported (no licence [ValueError])"),
        ("x=:f", "'' cannot be imported"),
        ("x=.tiny:f", "'.tiny' cannot be imported"),
        ("x=tests.profiler.tiny:nothing", "has no 'nothing'"),
        ("x=tests.profiler.tiny:", "has no ''"),
        ("x=tests.profiler.tiny:__name__", "is no function"),
        ("x=tests.profiler.tiny", "expected package.module:function, or a file"),
        ("x=none.pt", "no such file"),
        ("../x=tests.profiler.tiny:pictures", "the name '../x' must be 1 to 63 letters"),
        ("=tests.profiler.tiny:pictures", "the name '' must be 1 to 63 letters"),
        ("x=none.onnx", "no such file"),
        ("x=tests.profiler.tiny:pictures@3xx4", "must be whole numbers"),
    ],
)
def test_names_of_nothing_are_refused(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        find_model(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
