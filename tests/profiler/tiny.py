"""Small torch models for tests, made by factories as users write them."""

from typing import Any


def pictures() -> Any:
    """Scale bytes, convolve, pool: three numbers a picture."""
    import torch
    from torch import nn

    class Pictures(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.Sequential(
                nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
            )

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return self.steps(given.to(self.steps[0].weight.dtype) / 255.0)

    return Pictures()


def words() -> Any:
    """Embed tokens, let them attend to one another: two numbers a text."""
    import torch
    from torch import nn

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.known = nn.Embedding(30_000, 16)
            layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation="gelu", batch_first=True)
            self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.head = nn.Linear(128, 2)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            found = self.layers(self.known(tokens))
            return self.head(found.view(tokens.size(0), -1))

    return Words()


def two_answers() -> Any:
    """A model that cannot be served with one output."""
    from torch import nn

    class Two(nn.Module):
        def forward(self, given: Any) -> Any:
            return given.float(), given.float() + 1

    return Two()


def fixed_batch() -> Any:
    """A model that forgets that batches vary: its answer depends on the whole batch."""
    from torch import nn

    class Fixed(nn.Module):
        def forward(self, given: Any) -> Any:
            return given.float().reshape(2, -1)

    return Fixed()


def not_a_model() -> None:
    """Make nothing."""


def fails() -> None:
    """Raise as a factory does whose weights are not there."""
    raise FileNotFoundError("weights.pt is not there\nfor reasons that take many lines")


def ends() -> None:
    """Leave the program, as scripts do."""
    raise SystemExit(3)


def other_inputs() -> Any:
    """A model that takes other shapes than it is told."""
    from torch import nn

    return nn.Linear(7, 2)


def one_at_a_time() -> Any:
    """A model that runs at batch 1 only."""
    from torch import nn

    class One(nn.Module):
        def forward(self, given: Any) -> Any:
            return given.float().reshape(1, 768)

    return One()


def no_batch() -> Any:
    """A model that answers all inputs with one number."""
    from torch import nn

    class Total(nn.Module):
        def forward(self, given: Any) -> Any:
            return given.float().sum()

    return Total()


def by_value() -> Any:
    """A model whose steps depend on what it is given, which no tracer can follow."""
    from torch import nn

    class ByValue(nn.Module):
        def forward(self, given: Any) -> Any:
            return given.float() if given.sum() > 7 else given.float() + 1

    return ByValue()
