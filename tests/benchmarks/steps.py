"""Training steps of MobileNetV2 in a process of its own: ``python -m tests.benchmarks.steps`` prints images/s."""

import statistics
import sys
import time

import timm
import torch
from torch.nn import functional

BATCH, PX, STEPS, WARM_UP = 32, 96, 14, 3


def images_per_s(threads: int) -> float:
    """Return images/s of the median step on random images."""
    torch.set_num_threads(threads)
    model = timm.create_model("mobilenetv2_100", num_classes=6).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    images = torch.randn(BATCH, 3, PX, PX).to(memory_format=torch.channels_last)
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
    print(images_per_s(int(sys.argv[1])))  # noqa: T201 - read by the benchmark
