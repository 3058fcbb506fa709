"""Training steps in a process of its own: ``python -m tests.benchmarks.steps THREADS MODEL PX`` prints images/s."""

import statistics
import sys
import time

import timm
import torch
from torch.nn import functional

BATCH, STEPS, WARM_UP = 32, 14, 3


def images_per_s(threads: int, name: str, px: int) -> float:
    """Return images/s of the median step on random images."""
    torch.set_num_threads(threads)
    model = timm.create_model(name, num_classes=6).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    images = torch.randn(BATCH, 3, px, px).to(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 6
    took = []
    for _ in range(STEPS):
        began = time.perf_counter()
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(images), labels))
        optimizer.step()
        took.append(time.perf_counter() - began)
    return BATCH / statistics.median(took[WARM_UP:])


if __name__ == "__main__":
    print(images_per_s(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))  # noqa: T201 - read by the benchmark
